// The table of patches: 100 000 rows are searched in some milliseconds.

import type { PatchColumns, StoreDescription } from "./api.js";

export type Order = "store" | "most" | "fewest";

export interface Filter {
    folder: string | null;
    scale: string | null;
    /** Part of a source's name, whatever its case; words may come in any order. */
    text: string;
    minDensity: number;
    maxDensity: number;
    order: Order;
}

export class PatchTable {
    /** Share of edge pixels of each patch. */
    readonly density: Float32Array;
    /** Folders of the sources, i.e. the datasets that the store is made of; "" for those in none. */
    readonly folders: string[];
    readonly maxDensity: number;
    private readonly folderOfSource: string[];
    private readonly lowerSources: string[];

    constructor(readonly columns: PatchColumns, description: StoreDescription) {
        const numPixels = description.patch_size ** 2;
        this.density = Float32Array.from(columns.num_edge_pixels, (count) => count / numPixels);
        this.folderOfSource = columns.sources.map((source) => source.slice(0, Math.max(source.indexOf("/"), 0)));
        this.folders = [...new Set(this.folderOfSource)].sort();
        this.lowerSources = columns.sources.map((source) => source.toLowerCase());
        this.maxDensity = this.density.reduce((largest, value) => Math.max(largest, value), 0);
    }

    get numPatches(): number {
        return this.columns.slot.length;
    }

    source(index: number): string {
        return this.columns.sources[this.columns.source[index]];
    }

    scale(index: number): string {
        return this.columns.scales[this.columns.scale[index]];
    }

    /** Indices of the patches that pass, in the order asked for. */
    select(filter: Filter): Int32Array {
        const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
        const sourcePasses = this.lowerSources.map(
            (source, number) =>
                (filter.folder === null || this.folderOfSource[number] === filter.folder) &&
                words.every((word) => source.includes(word)),
        );
        const scalePasses = this.columns.scales.map((scale) => filter.scale === null || scale === filter.scale);
        const { source, scale } = this.columns;
        const found: number[] = [];
        for (let index = 0; index < this.numPatches; index++) {
            const density = this.density[index];
            const passes = density >= filter.minDensity && density <= filter.maxDensity;
            if (passes && sourcePasses[source[index]] && scalePasses[scale[index]]) found.push(index);
        }
        if (filter.order !== "store") {
            const sign = filter.order === "most" ? -1 : 1;
            found.sort((a, b) => sign * (this.density[a] - this.density[b]) || a - b);
        }
        return Int32Array.from(found);
    }

    /** How many of the patches fall into each of equal steps of density, from 0 to the largest. */
    histogram(indices: Iterable<number>, numSteps: number): number[] {
        const counts = new Array<number>(numSteps).fill(0);
        for (const index of indices) {
            counts[Math.min(Math.floor((this.density[index] / (this.maxDensity || 1)) * numSteps), numSteps - 1)]++;
        }
        return counts;
    }
}
