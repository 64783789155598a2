// All patches that pass the filters, as a grid that holds no more tiles than are in sight.

import type { PatchTable } from "./table.js";
import type { Thumbnail, Thumbnails } from "./thumbnails.js";

const TILE = 152; // picture and gap, in CSS pixels
const CAPTION = 38;
const ROWS_AHEAD = 2;
const TALLEST = 8_000_000; // browsers draw no elements much taller; beyond, scrolling takes larger steps

export const PICTURE = TILE - 12;

interface Tile {
    element: HTMLElement;
    canvas: HTMLCanvasElement;
    index: number;
}

export class Grid {
    private shown: Int32Array = new Int32Array();
    private readonly tiles = new Map<number, Tile>(); // by position among those shown
    private active = 0;
    private isMaskShown = false;
    private isDrawing = false;

    constructor(
        private readonly scroller: HTMLElement,
        private readonly space: HTMLElement,
        private readonly table: PatchTable,
        private readonly thumbnails: Thumbnails,
        private readonly onOpen: (index: number) => void,
    ) {
        scroller.addEventListener("scroll", () => this.drawSoon());
        scroller.addEventListener("keydown", (event) => this.onKey(event));
        space.addEventListener("click", (event) => {
            const tile = (event.target as HTMLElement).closest<HTMLElement>("[data-position]");
            if (tile !== null) this.open(Number(tile.dataset.position));
        });
        new ResizeObserver(() => this.drawSoon()).observe(scroller);
    }

    /** Show these patches, from the top. */
    show(indices: Int32Array): void {
        this.shown = indices;
        this.active = 0;
        this.scroller.scrollTop = 0;
        this.clear();
        this.draw();
    }

    showMasks(isMaskShown: boolean): void {
        this.isMaskShown = isMaskShown;
        this.thumbnails.withMasks = isMaskShown;
        for (const tile of this.tiles.values()) this.fill(tile);
    }

    /** Make a patch the active one, and scroll to it. */
    activate(index: number): void {
        const position = this.shown.indexOf(index);
        if (position >= 0) this.go(position);
    }

    /** The patch shown a number of places after this one, or null at either end. */
    neighbour(index: number, step: number): number | null {
        const position = this.shown.indexOf(index) + step;
        return position >= 0 && position < this.shown.length ? this.shown[position] : null;
    }

    /** Place of a patch among those shown, counted from 1; 0 where it is not among them. */
    placeOf(index: number): number {
        return this.shown.indexOf(index) + 1;
    }

    get numShown(): number {
        return this.shown.length;
    }

    focus(): void {
        this.scroller.focus({ preventScroll: true });
    }

    private get numColumns(): number {
        return Math.max(Math.floor(this.space.clientWidth / TILE), 1);
    }

    private get fullHeight(): number {
        return Math.ceil(this.shown.length / this.numColumns) * (TILE + CAPTION);
    }

    /** How many pixels of the grid one pixel of scrolling moves. */
    private get stretch(): number {
        const view = this.scroller.clientHeight;
        return this.fullHeight > TALLEST ? (this.fullHeight - view) / (TALLEST - view) : 1;
    }

    private open(position: number): void {
        this.active = position;
        this.markActive();
        this.onOpen(this.shown[position]);
    }

    private onKey(event: KeyboardEvent): void {
        if (event.ctrlKey || event.altKey || event.metaKey || this.shown.length === 0) return;
        const columns = this.numColumns;
        const page = columns * Math.max(Math.floor(this.scroller.clientHeight / (TILE + CAPTION)), 1);
        const steps: Record<string, number> = {
            ArrowLeft: -1,
            ArrowRight: 1,
            ArrowUp: -columns,
            ArrowDown: columns,
            PageUp: -page,
            PageDown: page,
            Home: -this.active,
            End: this.shown.length - 1 - this.active,
        };
        if (event.key === "Enter" || event.key === " ") {
            this.open(this.active);
        } else if (event.key in steps) {
            const target = this.active + steps[event.key];
            const isVertical = Math.abs(steps[event.key]) > 1;
            if (target >= 0 && target < this.shown.length) this.go(target);
            else if (isVertical) this.go(target < 0 ? this.active % columns : this.shown.length - 1);
        } else return;
        event.preventDefault();
    }

    private go(position: number): void {
        this.active = position;
        const top = Math.floor(position / this.numColumns) * (TILE + CAPTION);
        const view = this.scroller.clientHeight;
        const seen = this.scroller.scrollTop * this.stretch;
        if (top < seen) this.scroller.scrollTop = top / this.stretch;
        else if (top + TILE + CAPTION > seen + view) {
            this.scroller.scrollTop = (top + TILE + CAPTION - view) / this.stretch;
        }
        this.draw();
    }

    private clear(): void {
        for (const position of [...this.tiles.keys()]) this.drop(position);
    }

    private drop(position: number): void {
        const tile = this.tiles.get(position)!;
        this.thumbnails.cancel(tile.index);
        tile.element.remove();
        this.tiles.delete(position);
    }

    private drawSoon(): void {
        if (this.isDrawing) return;
        this.isDrawing = true;
        requestAnimationFrame(() => {
            this.isDrawing = false;
            this.draw();
        });
    }

    private draw(): void {
        const columns = this.numColumns;
        const height = TILE + CAPTION;
        this.space.style.height = `${Math.min(this.fullHeight, TALLEST)}px`;
        const { scrollTop, clientHeight } = this.scroller;
        if (clientHeight === 0) return; // another page is shown
        const top = scrollTop * this.stretch;
        const first = Math.max(Math.floor(top / height) - ROWS_AHEAD, 0) * columns;
        const stop = Math.min((Math.ceil((top + clientHeight) / height) + ROWS_AHEAD) * columns, this.shown.length);
        for (const position of [...this.tiles.keys()]) if (position < first || position >= stop) this.drop(position);
        const left = (this.space.clientWidth - columns * TILE) / 2;
        for (let position = stop - 1; position >= first; position--) {
            const tile = this.tiles.get(position) ?? this.add(position);
            const y = Math.floor(position / columns) * height - top + scrollTop;
            tile.element.style.transform = `translate(${left + (position % columns) * TILE}px, ${y}px)`;
        }
        this.markActive();
    }

    private add(position: number): Tile {
        const index = this.shown[position];
        const element = document.createElement("div");
        element.className = "tile";
        element.id = `tile-${position}`;
        element.dataset.position = String(position);
        element.dataset.index = String(index);
        element.setAttribute("role", "option");
        element.setAttribute("aria-setsize", String(this.shown.length));
        element.setAttribute("aria-posinset", String(position + 1));
        const canvas = document.createElement("canvas");
        const side = PICTURE * devicePixelRatio;
        [canvas.width, canvas.height] = [side, side];
        element.append(canvas, ...this.caption(index));
        this.space.insertBefore(element, this.tiles.get(position + 1)?.element ?? null); // those behind are there
        const tile = { element, canvas, index };
        this.tiles.set(position, tile);
        this.fill(tile);
        return tile;
    }

    private caption(index: number): HTMLElement[] {
        const name = document.createElement("span");
        name.className = "tile-name";
        const source = this.table.source(index);
        name.textContent = source.slice(source.lastIndexOf("/") + 1);
        const facts = document.createElement("span");
        facts.className = "tile-facts";
        const { row, col } = this.table.columns;
        const scale = this.table.scale(index);
        const place = `${row[index]},${col[index]}${scale === "1" ? "" : ` @${scale}`}`;
        facts.textContent = `${place} · ${(100 * this.table.density[index]).toFixed(1)} %`;
        return [name, facts];
    }

    private fill(tile: Tile): void {
        this.thumbnails.request(tile.index, (thumbnail) => {
            if (thumbnail instanceof Error) {
                tile.element.classList.add("broken");
                tile.element.title = thumbnail.message;
            } else this.paint(tile.canvas, thumbnail);
        });
    }

    private paint(canvas: HTMLCanvasElement, { image, mask }: Thumbnail): void {
        const context = canvas.getContext("2d")!;
        context.imageSmoothingEnabled = image.width > canvas.width / 3;
        context.drawImage(image, 0, 0, canvas.width, canvas.height);
        if (this.isMaskShown && mask !== null) context.drawImage(mask, 0, 0, canvas.width, canvas.height);
        canvas.dataset.drawn = "true";
    }

    private markActive(): void {
        for (const [position, { element }] of this.tiles) {
            element.setAttribute("aria-selected", String(position === this.active));
        }
        if (this.tiles.has(this.active)) this.scroller.setAttribute("aria-activedescendant", `tile-${this.active}`);
        else this.scroller.removeAttribute("aria-activedescendant");
    }
}
