// What the server says besides the bytes of the store; see ssl_data/view/documents.py.

export interface StoreDescription {
    url: string;
    dataset: string;
    fingerprint: string;
    num_patches: number;
    patch_size: number;
    arrays: { gt: string; edge_mask: string; ssg: string; lq: string | null };
    lq_scale: number | null;
    edge_stride: number;
    quantization: "sqrt8" | "sqrt12";
    largest_code: number;
    offsets: [dy: number, dx: number][];
    spec: { ssg: SSGSpec; [group: string]: Record<string, unknown> | SSGSpec };
}

export interface SSGSpec {
    search_size: number;
    window_size: number;
    bandwidth: number;
    boundary: string;
    search_stride: number;
}

export interface PatchColumns {
    slot: number[];
    row: number[];
    col: number[];
    num_edge_pixels: number[];
    start: number[];
    count: number[];
    source: number[];
    sources: string[];
    scale: number[];
    scales: string[];
}

export interface PatchRecord {
    patch_id: string;
    author_name: string;
    source: string;
    source_sha256: string;
    gt_sha256: string;
}

export interface GraphDocument {
    ssd: number[];
    codes: number[];
    normalized: number[];
}

/** Fetches; what the server refuses becomes an error with its sentence. */
export async function fetchOrThrow(request: Request | string): Promise<Response> {
    const response = await fetch(request).catch(() => {
        throw new Error("the server does not answer; is `ssl-data view` still running?");
    });
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({ error: response.statusText }));
    throw new Error(error);
}

async function read<T>(path: string): Promise<T> {
    return (await fetchOrThrow(path)).json() as Promise<T>;
}

export const readStore = (): Promise<StoreDescription> => read("api/store");
export const readPatches = (): Promise<PatchColumns> => read("api/patches");
export const readPatch = (index: number): Promise<PatchRecord> => read(`api/patches/${index}`);
export const recomputeGraph = (index: number, row: number, col: number): Promise<GraphDocument> =>
    read(`api/patches/${index}/graph?row=${row}&col=${col}`);
