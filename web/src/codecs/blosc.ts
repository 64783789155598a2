// A Blosc 1 frame (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst) of LZ4 or Zstandard, as stores
// have them: plain, or with the bytes of equal rank put together, or, for items of one byte, the bits.

import { decodeLz4 } from "./lz4.js";
import { decodeZstd } from "./zstd.js";

const HEADER_BYTES = 16;
const [SHUFFLED, STORED, BIT_SHUFFLED, NOT_SPLIT] = [0x01, 0x02, 0x04, 0x10];
const [LZ4, ZSTD] = [1, 4];

export default class Blosc {
    readonly kind = "bytes_to_bytes";

    static fromConfig(): Blosc {
        return new Blosc();
    }

    decode(frame: Uint8Array): Uint8Array {
        if (frame.length < HEADER_BYTES) throw new Error("a Blosc frame is too short");
        const head = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
        const [flags, itemBytes] = [frame[2], frame[3]];
        const [numBytes, blockBytes] = [head.getUint32(4, true), head.getUint32(8, true)];
        if (head.getUint32(12, true) !== frame.length) throw new Error("a Blosc frame has another length than it says");
        if (flags & STORED) return frame.subarray(HEADER_BYTES, HEADER_BYTES + numBytes);
        if (flags & BIT_SHUFFLED && itemBytes > 1) throw new Error("a Blosc frame has shuffled bits of items of several bytes");
        const out = new Uint8Array(numBytes);
        for (let block = 0, begin = 0; begin < numBytes; block++, begin += blockBytes) {
            const decoded = out.subarray(begin, Math.min(begin + blockBytes, numBytes));
            const isWhole = decoded.length === blockBytes;
            const numParts = isWhole && !(flags & NOT_SPLIT) ? itemBytes : 1;
            decodeParts(frame, head, head.getUint32(HEADER_BYTES + 4 * block, true), numParts, flags >> 5, decoded);
            if (flags & SHUFFLED && itemBytes > 1) unshuffle(decoded, itemBytes);
            if (flags & BIT_SHUFFLED) unshuffleBits(decoded);
        }
        return out;
    }

    encode(): never {
        throw new Error("stores are only read here");
    }
}

/** The parts of a block, one after the other, each after its length. */
function decodeParts(
    frame: Uint8Array,
    head: DataView,
    begin: number,
    numParts: number,
    format: number,
    out: Uint8Array,
): void {
    const partBytes = out.length / numParts;
    for (let part = 0, place = begin; part < numParts; part++) {
        const numBytes = head.getUint32(place, true);
        const encoded = frame.subarray(place + 4, place + 4 + numBytes);
        const decoded = out.subarray(part * partBytes, (part + 1) * partBytes);
        if (numBytes === partBytes) decoded.set(encoded);
        else if (format === LZ4) decodeLz4(encoded, decoded);
        else if (format === ZSTD) decodeZstd(encoded, decoded);
        else throw new Error(`a Blosc frame has format ${format}, which stores have not`);
        place += 4 + numBytes;
    }
}

/** First bytes of all items, then second bytes, ... back to items; a rest that is no item stays where it is. */
function unshuffle(block: Uint8Array, itemBytes: number): void {
    const shuffled = block.slice();
    const numItems = Math.floor(block.length / itemBytes);
    for (let rank = 0; rank < itemBytes; rank++) {
        for (let item = 0, from = rank * numItems; item < numItems; item++) block[item * itemBytes + rank] = shuffled[from++];
    }
}

/** Lowest bits of all bytes, packed, then their second bits, ... back to bytes; Blosc leaves blocks alone that are not made of eights. */
function unshuffleBits(block: Uint8Array): void {
    const planeBytes = block.length / 8;
    if (!Number.isInteger(planeBytes)) return;
    const shuffled = block.slice();
    block.fill(0);
    for (let bit = 0, from = 0; bit < 8; bit++) {
        for (let place = 0; place < block.length; place += 8, from++) {
            for (let bits = shuffled[from], i = 0; bits !== 0; bits >>= 1, i++) block[place + i] |= (bits & 1) << bit;
        }
    }
}
