// The graph of one edge pixel: stored, computed anew, and how far they are apart, as pictures and as numbers.

import type { StoreDescription } from "./api.js";
import { diverging, heat, HEAT } from "./colours.js";
import { element } from "./dom.js";
import { isDark } from "./theme.js";
import type { Comparison, Graph } from "./graphs.js";

export interface ShownGraph {
    row: number;
    col: number;
    stored: Graph;
    /** Null while the server is at it. */
    computed: Graph | null;
    comparison: Comparison | null;
}

type Kind = "codes" | "stored" | "computed" | "difference";

const TITLES = ["search area", "stored", "computed", "difference"];

export class GraphPanel {
    private readonly side: number;
    private readonly canvases: HTMLCanvasElement[] = [];
    private readonly captions: HTMLElement[] = [];
    private readonly markers: HTMLElement[] = [];
    private readonly maps = element("maps");
    private readonly kind = element<HTMLSelectElement>("all-values-kind");
    private shown: ShownGraph | null = null;
    private image: ImageData | null = null;
    private offset: number; // index of the offset whose numbers are shown

    /** `onPoint` is told the offset that is looked at. */
    constructor(
        private readonly description: StoreDescription,
        private readonly onPoint: (offset: readonly [number, number] | null) => void,
    ) {
        this.side = Math.sqrt(description.offsets.length);
        this.offset = this.centre;
        for (const title of TITLES) this.addMap(title);
        this.maps.addEventListener("keydown", (event) => this.onKey(event));
        this.maps.addEventListener("focus", () => this.onPoint(this.description.offsets[this.offset]));
        this.maps.addEventListener("blur", () => this.onPoint(null));
        this.kind.addEventListener("change", () => this.writeAllValues());
        element("all-values").addEventListener("toggle", () => this.writeAllValues());
        paintRamp();
    }

    /** Show another graph of a patch, or none. */
    show(graph: ShownGraph | null, image: ImageData | null): void {
        this.shown = graph;
        this.image = image;
        element("graph").hidden = graph === null;
        if (graph === null) return;
        element("graph-title").textContent = `Edge pixel ${graph.row}, ${graph.col}`;
        this.writeVerdict(graph);
        this.paint();
        this.write();
        this.writeAllValues();
    }

    /** Paint anew, as after a change of colours. */
    paint(): void {
        if (this.shown === null || this.image === null) return;
        const { stored, computed, comparison, row, col } = this.shown;
        this.paintSearchArea(this.image, row, col);
        this.paintValues(1, stored.similarity, (similarity) => heat(Math.sqrt(similarity)));
        this.paintValues(2, computed?.similarity, (similarity) => heat(Math.sqrt(similarity)));
        const largest = comparison === null ? 1 : Math.abs(comparison.difference[comparison.largest]) || 1;
        const dark = isDark();
        this.paintValues(3, comparison?.difference, (difference) => diverging(difference / largest, dark));
        this.captions[3].textContent = comparison === null ? TITLES[3] : `${TITLES[3]}, ± ${number(largest)}`;
    }

    private get centre(): number {
        return (this.side ** 2 - 1) / 2;
    }

    private addMap(title: string): void {
        const figure = document.createElement("figure");
        const frame = document.createElement("div");
        frame.className = "map";
        const canvas = document.createElement("canvas");
        const size = title === TITLES[0] ? this.description.spec.ssg.search_size : this.side;
        [canvas.width, canvas.height] = [size, size];
        const marker = document.createElement("div");
        marker.className = "marker";
        const caption = document.createElement("figcaption");
        caption.textContent = title;
        frame.append(canvas, marker);
        figure.append(frame, caption);
        this.maps.append(figure);
        this.canvases.push(canvas);
        this.captions.push(caption);
        this.markers.push(marker);
        const pointAt = (event: PointerEvent): void => {
            const box = frame.getBoundingClientRect();
            const clamp = (share: number): number => Math.min(Math.max(Math.floor(share * this.side), 0), this.side - 1);
            const [y, x] = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
            this.point(clamp(y) * this.side + clamp(x));
        };
        frame.addEventListener("pointermove", pointAt);
        frame.addEventListener("pointerdown", pointAt);
        frame.addEventListener("pointerleave", () => this.onPoint(null));
    }

    private point(offset: number): void {
        this.offset = offset;
        this.onPoint(this.description.offsets[offset]);
        this.write();
    }

    private onKey(event: KeyboardEvent): void {
        const steps: Record<string, [number, number]> = {
            ArrowUp: [-1, 0],
            ArrowDown: [1, 0],
            ArrowLeft: [0, -1],
            ArrowRight: [0, 1],
        };
        if (!(event.key in steps)) return;
        event.preventDefault();
        const [dy, dx] = steps[event.key];
        const clamp = (value: number): number => Math.min(Math.max(value, 0), this.side - 1);
        const [y, x] = [Math.floor(this.offset / this.side), this.offset % this.side];
        this.point(clamp(y + dy) * this.side + clamp(x + dx));
    }

    /** The pixels that the graph compares with: beyond the patch, its reflection without the border pixel again. */
    private paintSearchArea(image: ImageData, row: number, col: number): void {
        const size = this.description.spec.ssg.search_size;
        const radius = (size - 1) / 2;
        const area = new ImageData(size, size);
        const from = new Uint32Array(image.data.buffer);
        const to = new Uint32Array(area.data.buffer);
        const reflect = (place: number, length: number): number =>
            place < 0 ? -place : place >= length ? 2 * (length - 1) - place : place;
        for (let y = 0; y < size; y++) {
            const line = reflect(row - radius + y, image.height) * image.width;
            for (let x = 0; x < size; x++) to[y * size + x] = from[line + reflect(col - radius + x, image.width)];
        }
        this.canvases[0].getContext("2d")!.putImageData(area, 0, 0);
    }

    private paintValues(
        map: number,
        values: Float64Array | undefined,
        colour: (value: number) => [number, number, number],
    ): void {
        const picture = new ImageData(this.side, this.side);
        values?.forEach((value, k) => picture.data.set([...colour(value), 255], 4 * k));
        this.canvases[map].getContext("2d")!.putImageData(picture, 0, 0);
    }

    private writeVerdict({ computed, comparison, stored }: ShownGraph): void {
        const verdict = element("graph-verdict");
        const numCodes = stored.codes.length;
        element("ramp-end").textContent = `${number(stored.normalized[this.centre])} at the centre`;
        element("ramp-middle").textContent = number(stored.normalized[this.centre] / 4);
        verdict.classList.toggle("bad", comparison !== null && comparison.numEqualCodes < numCodes);
        if (computed === null || comparison === null) {
            verdict.textContent = "computing …";
            return;
        }
        const [dy, dx] = this.description.offsets[comparison.largest];
        verdict.textContent =
            `${comparison.numEqualCodes} of ${numCodes} codes are equal. ` +
            `Rounding to codes: at most ${number(Math.abs(comparison.difference[comparison.largest]))} ` +
            `(at ${signed(dy)}, ${signed(dx)}), KL divergence ${number(comparison.divergence)}.`;
    }

    /** The numbers of the offset that is looked at. */
    private write(): void {
        if (this.shown === null) return;
        const { stored, computed, row, col } = this.shown;
        const k = this.offset;
        const [dy, dx] = this.description.offsets[k];
        const side = this.description.patch_size;
        const isInside = [row + dy, col + dx].every((place) => place >= 0 && place < side);
        element("numbers-caption").textContent =
            `Offset ${signed(dy)}, ${signed(dx)}: pixel ${minus(`${row + dy}, ${col + dx}`)}` +
            (isInside ? "" : ", i.e. the reflection there");
        const rows: [string, (graph: Graph) => number][] = [
            ["graph", (graph) => graph.normalized[k]],
            ["similarity", (graph) => graph.similarity[k]],
            ["code", (graph) => graph.codes[k]],
        ];
        const lines = rows.map(([name, value]) => {
            const [left, right] = [value(stored), computed === null ? null : value(computed)];
            const texts = [number(left), right === null ? "" : number(right), right === null ? "" : number(left - right)];
            return tableRow(name, texts);
        });
        element("numbers").querySelector("tbody")!.replaceChildren(...lines);
        for (const marker of this.markers) {
            const share = 100 / this.side;
            marker.style.width = marker.style.height = `${share}%`;
            marker.style.top = `${Math.floor(k / this.side) * share}%`;
            marker.style.left = `${(k % this.side) * share}%`;
        }
    }

    private writeAllValues(): void {
        if (this.shown === null || !element<HTMLDetailsElement>("all-values").open) return;
        const { stored, computed, comparison } = this.shown;
        const values = {
            codes: stored.codes,
            stored: stored.normalized,
            computed: computed?.normalized ?? [],
            difference: comparison?.difference ?? [],
        }[this.kind.value as Kind];
        const { offsets } = this.description;
        const head = tableRow("", offsets.slice(0, this.side).map(([, dx]) => signed(dx)), "th");
        const lines = Array.from({ length: this.side }, (_, y) => {
            const line = Array.from(values).slice(y * this.side, (y + 1) * this.side);
            return tableRow(signed(offsets[y * this.side][0]), line.map(number));
        });
        element("all-values-table").replaceChildren(head, ...lines);
    }
}

function paintRamp(): void {
    const picture = new ImageData(HEAT.length, 1);
    HEAT.forEach((colour, step) => picture.data.set([...colour, 255], 4 * step));
    element<HTMLCanvasElement>("ramp").getContext("2d")!.putImageData(picture, 0, 0);
}

function tableRow(name: string, texts: string[], kind = "td"): HTMLTableRowElement {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.textContent = name;
    row.append(
        head,
        ...texts.map((text) => {
            const cell = document.createElement(kind);
            cell.textContent = text;
            return cell;
        }),
    );
    return row;
}

/** A number with four digits that count, whole numbers in full. */
export function number(value: number): string {
    if (Number.isInteger(value)) return minus(String(value));
    const small = Math.abs(value) < 1e-3;
    return minus(small ? value.toExponential(2) : value.toPrecision(4));
}

const minus = (text: string): string => text.replaceAll("-", "−");
const signed = (value: number): string => (value > 0 ? `+${value}` : minus(String(value)));
