// The codec "crc32c", with the checksum looked at: zarrita's own only takes it off.

const POLYNOMIAL = 0x82f63b78; // Castagnoli's, mirrored
const CHECKSUM_BYTES = 4;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
    let rest = byte;
    for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
    return rest;
});

export function crc32c(bytes: Uint8Array): number {
    let rest = 0xffffffff;
    for (let i = 0; i < bytes.length; i++) rest = (rest >>> 8) ^ TABLE[(rest ^ bytes[i]) & 0xff];
    return ~rest >>> 0;
}

export class CheckedCrc32c {
    readonly kind = "bytes_to_bytes";

    static fromConfig(): CheckedCrc32c {
        return new CheckedCrc32c();
    }

    encode(): never {
        throw new Error("stores are only read here");
    }

    decode(bytes: Uint8Array): Uint8Array {
        const body = bytes.subarray(0, bytes.length - CHECKSUM_BYTES);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        if (crc32c(body) !== view.getUint32(body.length, true)) {
            throw new Error("a chunk's CRC-32C does not match; run `ssl-data verify`");
        }
        return body;
    }

    computeEncodedSize(decodedSize: number): number {
        return decodedSize + CHECKSUM_BYTES;
    }
}
