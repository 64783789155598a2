// Zstandard frames (RFC 8878), with the checksum of their content looked at: fzstd itself skips it.

import { decompress } from "fzstd";
import { xxh64 } from "./xxh64.js";

const DESCRIPTOR = 4; // its place: after the magic number
const HAS_CHECKSUM = 0x04;

export default class Zstd {
    readonly kind = "bytes_to_bytes";

    static fromConfig(): Zstd {
        return new Zstd();
    }

    decode(frame: Uint8Array): Uint8Array {
        return decodeZstd(frame);
    }

    encode(): never {
        throw new Error("stores are only read here");
    }
}

/** What a frame holds, in `out` where given, which it then has to fill. */
export function decodeZstd(frame: Uint8Array, out?: Uint8Array): Uint8Array {
    const decoded = decompress(frame, out);
    if (out !== undefined && decoded.length !== out.length) {
        throw new Error(`a Zstandard frame holds ${decoded.length} bytes instead of ${out.length}`);
    }
    if (frame[DESCRIPTOR] & HAS_CHECKSUM) {
        const checksum = new DataView(frame.buffer, frame.byteOffset, frame.byteLength).getUint32(frame.length - 4, true);
        if (xxh64(decoded)[1] !== checksum) {
            throw new Error("the checksum of a Zstandard frame does not match; run `ssl-data verify`");
        }
    }
    return decoded;
}
