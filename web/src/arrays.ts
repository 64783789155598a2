// The arrays of the store, read by zarrita from the files that the server passes on.

import * as zarr from "zarrita";
import { fetchOrThrow, type StoreDescription } from "./api.js";
import { CheckedCrc32c } from "./codecs/crc32c.js";

const CHUNKS_KEPT = 12; // of graphs, 0.6 to 10 MB each

type ZarrArray = zarr.Array<zarr.DataType, zarr.AsyncReadable>;
export type Codes = Uint8Array | Uint16Array;

zarr.registry.set("crc32c", async () => CheckedCrc32c as never);

export class StoreArrays {
    private readonly graphChunks = new Map<number, Promise<Codes>>();

    private constructor(
        private readonly description: StoreDescription,
        private readonly gt: ZarrArray,
        private readonly edgeMask: ZarrArray,
        private readonly ssg: ZarrArray,
        private readonly lq: ZarrArray | null,
    ) {}

    static async open(description: StoreDescription): Promise<StoreArrays> {
        const files = new zarr.FetchStore(new URL("store/", document.baseURI).href, {
            useSuffixRequest: true,
            fetch: fetchOrThrow, // a file that is missing is damage, never zeros
        });
        const root = zarr.root(zarr.withRangeCoalescing(files as zarr.AsyncReadable));
        const open = (name: string): Promise<ZarrArray> => zarr.open.v3(root.resolve(name), { kind: "array" });
        const { gt, edge_mask, ssg, lq } = description.arrays;
        const opened = await Promise.all([open(gt), open(edge_mask), open(ssg), lq === null ? null : open(lq)]);
        return new StoreArrays(description, ...opened);
    }

    /** The ground-truth patch. */
    readGt(slot: number): Promise<ImageData> {
        return readImage(this.gt, slot);
    }

    /** The patch for a small picture of so many pixels: its low-quality version where that is large enough. */
    readSmall(slot: number, side: number): Promise<ImageData> {
        return readImage(this.lq !== null && this.lq.shape[1] >= side ? this.lq : this.gt, slot);
    }

    /** The full edge mask, one byte per pixel, 0 or 1. */
    async readMask(slot: number): Promise<Uint8Array> {
        return bytesOf((await this.edgeMask.getChunk([slot, 0, 0])).data);
    }

    /** The codes of one graph, by its row in the array. */
    async readCodes(row: number): Promise<Codes> {
        const [chunkRows, numPositions] = this.ssg.chunks;
        const chunk = await this.graphChunk(Math.floor(row / chunkRows));
        const first = (row % chunkRows) * numPositions;
        const stored = chunk.subarray(first, first + numPositions);
        const codes = "prediction" in this.ssg.attrs ? codesOf(stored as Uint8Array) : stored;
        if (codes[(numPositions - 1) / 2] !== this.description.largest_code) {
            throw new Error(`row ${row} of ${this.description.arrays.ssg} holds no graph; run \`ssl-data verify\``);
        }
        return codes;
    }

    private graphChunk(index: number): Promise<Codes> {
        const chunk =
            this.graphChunks.get(index) ?? this.ssg.getChunk([index, 0]).then(({ data }) => data as unknown as Codes);
        this.graphChunks.delete(index); // and put it to the end: the first is the one not used for longest
        this.graphChunks.set(index, chunk);
        chunk.catch(() => this.graphChunks.delete(index));
        if (this.graphChunks.size > CHUNKS_KEPT) this.graphChunks.delete(this.graphChunks.keys().next().value!);
        return chunk;
    }
}

/** The codes of one graph of which the array holds differences; see FORMAT.md. */
function codesOf(differences: Uint8Array): Uint8Array {
    const codes = differences.slice(); // its sums are modulo 256, as they have to be
    const side = Math.sqrt(codes.length);
    for (let k = side; k < codes.length; k++) codes[k] += codes[k - side];
    for (let k = 0; k < codes.length; k++) if (k % side > 0) codes[k] += codes[k - 1];
    return codes;
}

function bytesOf(data: unknown): Uint8Array {
    const { buffer, byteOffset, byteLength } = data as Uint8Array;
    return new Uint8Array(buffer, byteOffset, byteLength);
}

/** All tiles of one image, asked for at once, so that they come in one request. */
async function readImage(array: ZarrArray, slot: number): Promise<ImageData> {
    const [, height, width] = array.shape;
    const [, tileHeight, tileWidth] = array.chunks;
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const readTile = async (top: number, left: number): Promise<void> => {
        const tile = bytesOf((await array.getChunk([slot, top / tileHeight, left / tileWidth, 0])).data);
        for (let row = 0, from = 0; row < tileHeight; row++) {
            let to = (top + row) * width + left;
            for (let col = 0; col < tileWidth; col++, from += 3) {
                pixels[to++] = 0xff000000 | (tile[from + 2] << 16) | (tile[from + 1] << 8) | tile[from];
            }
        }
    };
    const tiles: Promise<void>[] = [];
    for (let top = 0; top < height; top += tileHeight) {
        for (let left = 0; left < width; left += tileWidth) tiles.push(readTile(top, left));
    }
    await Promise.all(tiles);
    return image;
}

/** SHA-256 of the pixels as the manifest has it; undefined where the browser computes none (plain HTTP elsewhere). */
export async function pixelsSha256(image: ImageData): Promise<string | undefined> {
    if (crypto.subtle === undefined) return undefined;
    const rgb = new Uint8Array(image.width * image.height * 3);
    for (let from = 0, to = 0; to < rgb.length; from += 4) {
        rgb[to++] = image.data[from];
        rgb[to++] = image.data[from + 1];
        rgb[to++] = image.data[from + 2];
    }
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", rgb));
    return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
