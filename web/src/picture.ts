// One patch, as large as one likes, with what belongs to the edge pixel that is looked at.

import { heat } from "./colours.js";
import { EdgePixels, paintMask } from "./mask.js";
import type { Graph } from "./graphs.js";
import type { SSGSpec } from "./api.js";

const LARGEST_ZOOM = 64;
const POINTER_REACH = 7; // CSS pixels between the pointer and the edge pixel it means
const CLICK_REACH = 4; // how far a pointer may move in a click

interface Events {
    /** The pointer is over this edge pixel, or over none. */
    onHover: (pixel: number | null) => void;
    /** This edge pixel was chosen, or let go of. */
    onChoose: (pixel: number | null) => void;
    onZoom: (zoom: number) => void;
}

export class Picture {
    edgePixels: EdgePixels | null = null;
    isMaskShown = false;
    isHeatShown = true;
    private image: HTMLCanvasElement | null = null;
    private mask: HTMLCanvasElement | null = null;
    private heatMap: HTMLCanvasElement | null = null;
    private pixel: number | null = null;
    private offset: readonly [number, number] | null = null;
    private zoom = 1; // CSS pixels per pixel of the patch
    private left = 0; // of the patch, in CSS pixels
    private top = 0;
    private isFitted = true;
    private drag: { x: number; y: number; isClick: boolean } | null = null;
    private isDrawing = false;

    constructor(
        private readonly canvas: HTMLCanvasElement,
        private readonly spec: SSGSpec,
        private readonly edgeStride: number,
        private readonly events: Events,
    ) {
        new ResizeObserver(() => this.resize()).observe(canvas);
        canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
        canvas.addEventListener("pointerdown", (event) => this.onDown(event));
        canvas.addEventListener("pointermove", (event) => this.onMove(event));
        canvas.addEventListener("pointerup", (event) => this.onUp(event));
        canvas.addEventListener("pointerleave", () => events.onHover(null));
        canvas.addEventListener("keydown", (event) => this.onKey(event));
    }

    /** Show another patch, as a whole. */
    show(image: ImageData, mask: Uint8Array): void {
        this.image = asCanvas(image);
        this.mask = asCanvas(paintMask(mask, image.width, this.edgeStride));
        this.edgePixels = new EdgePixels(mask, image.width, this.edgeStride);
        this.heatMap = null;
        this.pixel = null;
        this.fit();
    }

    clear(): void {
        this.image = this.mask = this.heatMap = this.edgePixels = this.pixel = null;
        this.drawSoon();
    }

    /** Show what belongs to an edge pixel; its graph may come later. */
    mark(pixel: number | null, graph: Graph | null = null): void {
        this.pixel = pixel;
        this.heatMap = graph === null ? null : this.paintGraph(graph);
        this.drawSoon();
    }

    /** Show where an offset of the graph leads. */
    point(offset: readonly [number, number] | null): void {
        this.offset = offset;
        this.drawSoon();
    }

    fit(): void {
        if (this.image === null) return;
        const { clientWidth, clientHeight } = this.canvas;
        this.zoom = Math.max(Math.min(clientWidth, clientHeight) / this.image.width, 0.05);
        this.left = (clientWidth - this.image.width * this.zoom) / 2;
        this.top = (clientHeight - this.image.height * this.zoom) / 2;
        this.isFitted = true;
        this.drawSoon();
    }

    zoomBy(factor: number, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2): void {
        const zoom = Math.min(Math.max(this.zoom * factor, 0.25), LARGEST_ZOOM);
        this.left = x - ((x - this.left) * zoom) / this.zoom;
        this.top = y - ((y - this.top) * zoom) / this.zoom;
        this.zoom = zoom;
        this.isFitted = false;
        this.drawSoon();
    }

    /** Bring the search area of the chosen pixel close. */
    zoomToPixel(): void {
        if (this.pixel === null || this.edgePixels === null) return;
        const { clientWidth, clientHeight } = this.canvas;
        this.zoom = Math.min(clientWidth, clientHeight) / (1.6 * this.spec.search_size);
        this.left = clientWidth / 2 - (this.edgePixels.col(this.pixel) + 0.5) * this.zoom;
        this.top = clientHeight / 2 - (this.edgePixels.row(this.pixel) + 0.5) * this.zoom;
        this.isFitted = false;
        this.drawSoon();
    }

    drawSoon(): void {
        if (this.isDrawing) return;
        this.isDrawing = true;
        requestAnimationFrame(() => {
            this.isDrawing = false;
            this.draw();
        });
    }

    private resize(): void {
        this.canvas.width = this.canvas.clientWidth * devicePixelRatio;
        this.canvas.height = this.canvas.clientHeight * devicePixelRatio;
        if (this.isFitted) this.fit();
        else this.drawSoon();
    }

    private onWheel(event: WheelEvent): void {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }

    private onDown(event: PointerEvent): void {
        this.drag = { x: event.clientX, y: event.clientY, isClick: true };
        this.canvas.setPointerCapture(event.pointerId);
    }

    private onMove(event: PointerEvent): void {
        if (this.drag === null) {
            this.events.onHover(this.pixelAt(event.offsetX, event.offsetY));
            return;
        }
        const [dx, dy] = [event.clientX - this.drag.x, event.clientY - this.drag.y];
        if (this.drag.isClick && Math.hypot(dx, dy) < CLICK_REACH) return;
        this.left += dx;
        this.top += dy;
        this.drag = { x: event.clientX, y: event.clientY, isClick: false };
        this.isFitted = false;
        this.drawSoon();
    }

    private onUp(event: PointerEvent): void {
        if (this.drag?.isClick) this.events.onChoose(this.pixelAt(event.offsetX, event.offsetY));
        this.drag = null;
    }

    private onKey(event: KeyboardEvent): void {
        const directions: Record<string, [number, number]> = {
            ArrowUp: [-1, 0],
            ArrowDown: [1, 0],
            ArrowLeft: [0, -1],
            ArrowRight: [0, 1],
        };
        if (!(event.key in directions) || this.edgePixels === null) return;
        event.preventDefault();
        const [dy, dx] = directions[event.key];
        const { edgePixels, pixel } = this;
        this.events.onChoose(pixel === null ? edgePixels.central() : edgePixels.next(pixel, dy, dx));
        this.keepInSight();
    }

    private keepInSight(): void {
        if (this.pixel === null || this.edgePixels === null) return;
        const { clientWidth, clientHeight } = this.canvas;
        const x = this.left + (this.edgePixels.col(this.pixel) + 0.5) * this.zoom;
        const y = this.top + (this.edgePixels.row(this.pixel) + 0.5) * this.zoom;
        const margin = Math.min(clientWidth, clientHeight) / 8;
        if (!this.isFitted) {
            this.left += Math.min(Math.max(x, margin), clientWidth - margin) - x;
            this.top += Math.min(Math.max(y, margin), clientHeight - margin) - y;
            this.drawSoon();
        }
    }

    private pixelAt(x: number, y: number): number | null {
        const reach = Math.max(POINTER_REACH / this.zoom, 0.5);
        return this.edgePixels?.near((y - this.top) / this.zoom, (x - this.left) / this.zoom, reach) ?? null;
    }

    /** The graph as a picture of its search area; positions between the offsets stay transparent. */
    private paintGraph(graph: Graph): HTMLCanvasElement {
        const { search_size: size, search_stride: stride } = this.spec;
        const side = (size - 1) / stride + 1;
        const image = new ImageData(size, size);
        graph.similarity.forEach((similarity, k) => {
            const place = Math.floor(k / side) * stride * size + (k % side) * stride;
            image.data.set([...heat(Math.sqrt(similarity)), 255], 4 * place);
        });
        return asCanvas(image);
    }

    private draw(): void {
        const context = this.canvas.getContext("2d")!;
        context.setTransform(1, 0, 0, 1, 0, 0);
        context.clearRect(0, 0, this.canvas.width, this.canvas.height);
        this.events.onZoom(this.zoom);
        if (this.image === null) return;
        const scale = this.zoom * devicePixelRatio;
        context.setTransform(scale, 0, 0, scale, this.left * devicePixelRatio, this.top * devicePixelRatio);
        context.imageSmoothingEnabled = scale < 1;
        context.drawImage(this.image, 0, 0);
        if (this.isMaskShown) context.drawImage(this.mask!, 0, 0);
        if (this.pixel !== null) this.drawPixel(context, this.edgePixels!.row(this.pixel), this.edgePixels!.col(this.pixel));
    }

    private drawPixel(context: CanvasRenderingContext2D, row: number, col: number): void {
        const { search_size: search, window_size: window } = this.spec;
        const radius = (search - 1) / 2;
        context.save();
        context.beginPath(); // what is outside the patch is its reflection, which is not shown
        context.rect(0, 0, this.image!.width, this.image!.height);
        context.clip();
        if (this.isHeatShown && this.heatMap !== null) {
            context.globalAlpha = 0.8;
            context.drawImage(this.heatMap, col - radius, row - radius);
            context.globalAlpha = 1;
        }
        context.restore();
        this.outline(context, row, col, search, "#ffffff");
        this.outline(context, row, col, 1, "#ffffff");
        if (this.offset !== null) {
            const [dy, dx] = this.offset;
            this.outline(context, row, col, window, "#7fe7ff");
            this.outline(context, row + dy, col + dx, window, "#ffd24a");
            this.outline(context, row + dy, col + dx, 1, "#ffd24a");
        }
    }

    /** A square around a pixel, that can be seen on any background. */
    private outline(context: CanvasRenderingContext2D, row: number, col: number, size: number, colour: string): void {
        const corner = (size - 1) / 2;
        for (const [width, style] of [[3.5, "#000000b0"], [1.5, colour]] as const) {
            context.lineWidth = width / this.zoom;
            context.strokeStyle = style;
            context.strokeRect(col - corner, row - corner, size, size);
        }
    }
}

function asCanvas(image: ImageData): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d")!.putImageData(image, 0, 0);
    return canvas;
}
