// An LZ4 block (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).

const SHORTEST_MATCH = 4;

/** Fill `to` with what the block holds, exactly. */
export function decodeLz4(from: Uint8Array, to: Uint8Array): void {
    let [read, written] = [0, 0];
    const length = (first: number): number => {
        let total = first;
        for (let next = 255; first === 15 && next === 255; total += next) {
            if (read >= from.length) throw new Error("an LZ4 block ends in the middle");
            next = from[read++];
        }
        return total;
    };
    while (read < from.length) {
        const token = from[read++];
        const numLiterals = length(token >> 4);
        if (read + numLiterals > from.length || written + numLiterals > to.length) {
            throw new Error("an LZ4 block has literals beyond its end");
        }
        to.set(from.subarray(read, read + numLiterals), written);
        read += numLiterals;
        written += numLiterals;
        if (read >= from.length) break; // the last sequence has no match
        const distance = from[read] | (from[read + 1] << 8);
        read += 2;
        const stop = written + length(token & 15) + SHORTEST_MATCH;
        if (distance === 0 || distance > written || stop > to.length) {
            throw new Error("an LZ4 block points outside of what it holds");
        }
        // Byte by byte: a match may reach into what it writes.
        for (let source = written - distance; written < stop; ) to[written++] = to[source++];
    }
    if (written !== to.length) throw new Error(`an LZ4 block holds ${written} bytes instead of ${to.length}`);
}
