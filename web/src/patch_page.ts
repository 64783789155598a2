// The page of one patch: its picture, and the graph of the edge pixel that is pointed at or was chosen.

import { readPatch, recomputeGraph, type StoreDescription } from "./api.js";
import { pixelsSha256, type StoreArrays } from "./arrays.js";
import { element } from "./dom.js";
import { GraphPanel } from "./graph_panel.js";
import { compare, decode, exactGraph } from "./graphs.js";
import { Picture } from "./picture.js";
import type { PatchTable } from "./table.js";

const REST_MILLISECONDS = 40; // so long the pointer has to stay before the server is asked

export class PatchPage {
    readonly picture: Picture;
    private readonly panel: GraphPanel;
    private index = -1;
    private image: ImageData | null = null;
    private chosen: number | null = null;
    private looked: number | null = null; // the edge pixel whose graph is shown
    private visit = 0; // counts what was asked for, so that late answers are known as such

    constructor(
        private readonly description: StoreDescription,
        private readonly arrays: StoreArrays,
        private readonly table: PatchTable,
        private readonly onChoose: (row: number, col: number) => void,
        private readonly onFailure: (error: unknown) => void,
    ) {
        this.panel = new GraphPanel(description, (offset) => this.picture.point(offset));
        this.picture = new Picture(
            element<HTMLCanvasElement>("picture"),
            description.spec.ssg,
            description.edge_stride,
            {
                onHover: (pixel) => this.look(this.chosen ?? pixel),
                onChoose: (pixel) => this.choose(pixel),
                onZoom: (zoom) => (element("zoom-shown").textContent = `${Math.round(100 * zoom)} %`),
            },
        );
    }

    /** Show a patch, and the graph of one of its edge pixels if one is named. */
    async show(index: number, pixel: readonly [number, number] | null): Promise<void> {
        if (index !== this.index) await this.load(index);
        if (index !== this.index) return; // another patch was asked for meanwhile
        const number = pixel === null ? null : (this.picture.edgePixels?.at(...pixel) ?? null);
        this.chosen = number;
        this.look(number);
    }

    /** Let go of the chosen edge pixel; false where there is none. */
    release(): boolean {
        const was = this.chosen;
        if (was !== null) this.choose(null);
        return was !== null;
    }

    repaint(): void {
        this.panel.paint();
    }

    private async load(index: number): Promise<void> {
        this.index = index;
        this.chosen = this.looked = null;
        this.visit++;
        this.picture.clear();
        this.panel.show(null, null);
        const { columns } = this.table;
        const slot = columns.slot[index];
        element("patch-title").textContent = this.title(index);
        const hint = element("graph-hint");
        hint.hidden = false;
        hint.textContent = "reading …";
        const [image, mask, record] = await Promise.all([
            this.arrays.readGt(slot),
            this.arrays.readMask(slot),
            readPatch(index),
        ]);
        if (index !== this.index) return;
        this.image = image;
        this.picture.show(image, mask);
        const sha256 = await pixelsSha256(image);
        const numEdgePixels = mask.reduce((total, value) => total + value, 0);
        hint.textContent =
            columns.count[index] > 0
                ? "Point at an edge pixel, or choose one with the arrow keys, to see its graph."
                : "This patch has no edge pixels with a graph.";
        if (sha256 !== undefined && sha256 !== record.gt_sha256) {
            throw new Error("the pixels of this patch have another SHA-256 than its manifest says; run `ssl-data verify`");
        }
        if (numEdgePixels !== columns.num_edge_pixels[index] || this.picture.edgePixels!.places.length !== columns.count[index]) {
            throw new Error("the mask of this patch does not fit its manifest; run `ssl-data verify`");
        }
        this.writeFacts(index, sha256);
    }

    private title(index: number): string {
        const { row, col } = this.table.columns;
        const scale = this.table.scale(index);
        return `${this.table.source(index)}${scale === "1" ? "" : ` @${scale}`}, ${row[index]}, ${col[index]}`;
    }

    private writeFacts(index: number, sha256: string | undefined): void {
        const { columns, density } = this.table;
        const facts: [string, string][] = [
            ["edge density", `${(100 * density[index]).toFixed(2)} %`],
            ["edge pixels", columns.num_edge_pixels[index].toLocaleString("en-GB")],
            ["graphs", columns.count[index].toLocaleString("en-GB")],
            ["pixels", sha256 === undefined ? "hash not compared" : `SHA-256 ${sha256.slice(0, 8)}… as in the manifest`],
        ];
        element("patch-facts").replaceChildren(
            ...facts.flatMap(([name, text]) => {
                const [term, value] = [document.createElement("dt"), document.createElement("dd")];
                term.textContent = name;
                value.textContent = text;
                return [term, value];
            }),
        );
    }

    private choose(pixel: number | null): void {
        this.chosen = pixel;
        this.look(pixel);
        const { edgePixels } = this.picture;
        if (edgePixels === null) return;
        if (pixel === null) this.onChoose(-1, -1);
        else this.onChoose(edgePixels.row(pixel), edgePixels.col(pixel));
    }

    /** Show the graph of an edge pixel: the stored one at once, the one of the server when it comes. */
    private look(pixel: number | null): void {
        if (pixel === this.looked) return;
        this.looked = pixel;
        const visit = ++this.visit;
        this.picture.mark(pixel);
        element("graph-hint").hidden = pixel !== null;
        if (pixel === null) this.panel.show(null, null);
        else this.compareGraphs(pixel, visit).catch((error) => visit === this.visit && this.onFailure(error));
    }

    private async compareGraphs(pixel: number, visit: number): Promise<void> {
        const { edgePixels } = this.picture;
        const [row, col] = [edgePixels!.row(pixel), edgePixels!.col(pixel)];
        const codes = await this.arrays.readCodes(this.table.columns.start[this.index] + pixel);
        if (visit !== this.visit) return;
        const stored = decode(codes, this.description.largest_code);
        this.picture.mark(pixel, stored);
        this.panel.show({ row, col, stored, computed: null, comparison: null }, this.image);
        await new Promise((done) => setTimeout(done, REST_MILLISECONDS));
        if (visit !== this.visit) return;
        const computed = exactGraph(await recomputeGraph(this.index, row, col), this.description.spec.ssg);
        if (visit !== this.visit) return;
        this.panel.show({ row, col, stored, computed, comparison: compare(stored, computed) }, this.image);
    }
}
