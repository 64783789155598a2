// Arithmetic on graphs: what stored codes stand for, and how far they are from the exact values.

import type { GraphDocument, SSGSpec } from "./api.js";
import type { Codes } from "./arrays.js";

/** One graph in its three forms, all in the order of the search offsets. */
export interface Graph {
    codes: ArrayLike<number>;
    similarity: Float64Array;
    normalized: Float64Array;
}

export interface Comparison {
    difference: Float64Array;
    /** Index of the difference that is largest by absolute value. */
    largest: number;
    numEqualCodes: number;
    /** Kullback-Leibler divergence of the stored graph from the exact one, as a sum over the graph. */
    divergence: number;
}

export function decode(codes: Codes, largestCode: number): Graph {
    const similarity = Float64Array.from(codes, (code) => (code / largestCode) ** 2);
    const sum = similarity.reduce((total, value) => total + value, 0);
    return { codes, similarity, normalized: similarity.map((value) => value / sum) };
}

export function exactGraph(graph: GraphDocument, spec: SSGSpec): Graph {
    const scale = 3 * spec.window_size ** 2 * 255 ** 2 * spec.bandwidth;
    const similarity = Float64Array.from(graph.ssd, (ssd) => Math.exp(-ssd / scale));
    return { codes: graph.codes, similarity, normalized: Float64Array.from(graph.normalized) };
}

const SMALLEST = 1e-10; // where the loss cuts off, too

export function compare(stored: Graph, exact: Graph): Comparison {
    const difference = stored.normalized.map((value, k) => value - exact.normalized[k]);
    let [largest, numEqualCodes, divergence] = [0, 0, 0];
    difference.forEach((value, k) => {
        if (Math.abs(value) > Math.abs(difference[largest])) largest = k;
        if (stored.codes[k] === exact.codes[k]) numEqualCodes++;
        const [y, x] = [Math.max(exact.normalized[k], SMALLEST), Math.max(stored.normalized[k], SMALLEST)];
        divergence += y * Math.log(y / x);
    });
    return { difference, largest, numEqualCodes, divergence };
}
