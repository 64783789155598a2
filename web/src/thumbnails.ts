// Small pictures of patches: read when they come into sight, the latest first, and kept for a while.

import type { StoreArrays } from "./arrays.js";
import { paintMask } from "./mask.js";

const NUM_AT_ONCE = 4;
const NUM_KEPT = 600;

export interface Thumbnail {
    image: ImageBitmap;
    mask: ImageBitmap | null;
}

export class Thumbnails {
    private readonly kept = new Map<number, Thumbnail>();
    private readonly wanted = new Map<number, (thumbnail: Thumbnail | Error) => void>();
    private numRunning = 0;

    /** `side` is that of a picture, in pixels of the screen. */
    constructor(
        private readonly arrays: StoreArrays,
        private readonly slots: ArrayLike<number>,
        private readonly edgeStride: number,
        private readonly side: number,
    ) {}

    withMasks = false;

    /** Calls back, perhaps at once, with the picture of a patch. */
    request(index: number, onDone: (thumbnail: Thumbnail | Error) => void): void {
        const known = this.kept.get(index);
        if (known !== undefined && (known.mask !== null || !this.withMasks)) {
            onDone(known);
            return;
        }
        if (known !== undefined) onDone(known); // at least the picture
        this.wanted.delete(index);
        this.wanted.set(index, onDone);
        this.start();
    }

    /** The picture has gone out of sight. */
    cancel(index: number): void {
        this.wanted.delete(index);
    }

    private start(): void {
        while (this.numRunning < NUM_AT_ONCE && this.wanted.size > 0) {
            const [index, onDone] = [...this.wanted].at(-1)!;
            this.wanted.delete(index);
            this.numRunning++;
            this.make(index)
                .then(onDone, (reason) => onDone(reason instanceof Error ? reason : new Error(String(reason))))
                .finally(() => {
                    this.numRunning--;
                    this.start();
                });
        }
    }

    private async make(index: number): Promise<Thumbnail> {
        const known = this.kept.get(index);
        const slot = this.slots[index];
        const [image, mask] = await Promise.all([
            known?.image ?? this.arrays.readSmall(slot, this.side).then((pixels) => this.shrink(pixels)),
            known?.mask ?? (this.withMasks ? this.maskOf(slot) : null),
        ]);
        const thumbnail = { image, mask };
        this.kept.delete(index);
        this.kept.set(index, thumbnail);
        if (this.kept.size > NUM_KEPT) this.kept.delete(this.kept.keys().next().value!);
        return thumbnail;
    }

    private async maskOf(slot: number): Promise<ImageBitmap> {
        const mask = await this.arrays.readMask(slot);
        return this.shrink(paintMask(mask, Math.sqrt(mask.length), this.edgeStride));
    }

    private shrink(pixels: ImageData): Promise<ImageBitmap> {
        const resize = pixels.width > this.side;
        return createImageBitmap(
            pixels,
            resize ? { resizeWidth: this.side, resizeHeight: this.side, resizeQuality: "medium" } : {},
        );
    }
}
