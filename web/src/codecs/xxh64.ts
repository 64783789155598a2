// XXH64 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md) with seed 0, in halves of 32 bits: arithmetic on
// BigInt would take longer than decoding.

/** An unsigned integer of 64 bits: its upper and its lower half. */
type Wide = [high: number, low: number];

const P1: Wide = [0x9e3779b1, 0x85ebca87];
const P2: Wide = [0xc2b2ae3d, 0x27d4eb4f];
const P3: Wide = [0x165667b1, 0x9e3779f9];
const P4: Wide = [0x85ebca77, 0xc2b2ae63];
const P5: Wide = [0x27d4eb2f, 0x165667c5];

function add([ah, al]: Wide, [bh, bl]: Wide): Wide {
    const low = (al >>> 0) + (bl >>> 0);
    return [(ah + bh + (low > 0xffffffff ? 1 : 0)) >>> 0, low >>> 0];
}

function multiply([ah, al]: Wide, [bh, bl]: Wide): Wide {
    const [a0, a1, b0, b1] = [al & 0xffff, al >>> 16, bl & 0xffff, bl >>> 16];
    const [low, cross, other] = [a0 * b0, a1 * b0, a0 * b1];
    const middle = (low >>> 16) + (cross & 0xffff) + (other & 0xffff);
    const carried = a1 * b1 + (cross >>> 16) + (other >>> 16) + (middle >>> 16);
    return [(carried + Math.imul(ah, bl) + Math.imul(al, bh)) >>> 0, Math.imul(al, bl) >>> 0];
}

const xor = ([ah, al]: Wide, [bh, bl]: Wide): Wide => [(ah ^ bh) >>> 0, (al ^ bl) >>> 0];

function rotate([high, low]: Wide, bits: number): Wide {
    if (bits >= 32) return bits === 32 ? [low, high] : rotate([low, high], bits - 32);
    return [((high << bits) | (low >>> (32 - bits))) >>> 0, ((low << bits) | (high >>> (32 - bits))) >>> 0];
}

function shiftRight([high, low]: Wide, bits: number): Wide {
    return bits >= 32 ? [0, high >>> (bits - 32)] : [high >>> bits, ((low >>> bits) | (high << (32 - bits))) >>> 0];
}

const round = (lane: Wide, word: Wide): Wide => multiply(rotate(add(lane, multiply(word, P2)), 31), P1);

export function xxh64(bytes: Uint8Array): Wide {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const word = (place: number): Wide => [view.getUint32(place + 4, true), view.getUint32(place, true)];
    let place = 0;
    let hash = P5;
    if (bytes.length >= 32) {
        const lanes: Wide[] = [add(P1, P2), P2, [0, 0], [-P1[0] - 1 >>> 0, -P1[1] >>> 0]];
        for (; place + 32 <= bytes.length; place += 32) {
            for (let lane = 0; lane < 4; lane++) lanes[lane] = round(lanes[lane], word(place + 8 * lane));
        }
        hash = [1, 7, 12, 18].map((bits, lane) => rotate(lanes[lane], bits)).reduce(add);
        for (const lane of lanes) hash = add(multiply(xor(hash, round([0, 0], lane)), P1), P4);
    }
    hash = add(hash, [0, bytes.length]);
    for (; place + 8 <= bytes.length; place += 8) {
        hash = add(multiply(rotate(xor(hash, round([0, 0], word(place))), 27), P1), P4);
    }
    for (; place + 4 <= bytes.length; place += 4) {
        hash = add(multiply(rotate(xor(hash, multiply([0, view.getUint32(place, true)], P1)), 23), P2), P3);
    }
    for (; place < bytes.length; place++) hash = multiply(rotate(xor(hash, multiply([0, bytes[place]], P5)), 11), P1);
    hash = multiply(xor(hash, shiftRight(hash, 33)), P2);
    hash = multiply(xor(hash, shiftRight(hash, 29)), P3);
    return xor(hash, shiftRight(hash, 32));
}
