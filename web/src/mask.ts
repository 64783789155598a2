// Edge masks: which pixels have a graph, and how they are shown.

const WITH_GRAPH = [255, 0, 140, 190];
const WITHOUT_GRAPH = [255, 196, 0, 120]; // edge pixels that edge_stride leaves out

/** The mask as a picture to be laid over the patch. */
export function paintMask(mask: Uint8Array, side: number, edgeStride: number): ImageData {
    const image = new ImageData(side, side);
    for (let place = 0; place < mask.length; place++) {
        if (mask[place] === 0) continue;
        image.data.set(hasGraph(place, side, edgeStride) ? WITH_GRAPH : WITHOUT_GRAPH, 4 * place);
    }
    return image;
}

function hasGraph(place: number, side: number, edgeStride: number): boolean {
    return Math.floor(place / side) % edgeStride === (place % side) % edgeStride;
}

export class EdgePixels {
    /** Places (row * side + col) of the edge pixels with a graph, in the order of the graphs. */
    readonly places: Int32Array;
    private readonly numbers: Int32Array;

    constructor(mask: Uint8Array, readonly side: number, edgeStride: number) {
        const places: number[] = [];
        mask.forEach((isEdge, place) => {
            if (isEdge && hasGraph(place, side, edgeStride)) places.push(place);
        });
        this.places = Int32Array.from(places);
        this.numbers = new Int32Array(side * side).fill(-1);
        this.places.forEach((place, number) => (this.numbers[place] = number));
    }

    row(number: number): number {
        return Math.floor(this.places[number] / this.side);
    }

    col(number: number): number {
        return this.places[number] % this.side;
    }

    /** The number of the edge pixel there, or null. */
    at(row: number, col: number): number | null {
        const isInside = row >= 0 && col >= 0 && row < this.side && col < this.side;
        const number = isInside ? this.numbers[row * this.side + col] : -1;
        return number < 0 ? null : number;
    }

    /** The edge pixel nearest to a place, not further away than `reach`. */
    near(row: number, col: number, reach: number): number | null {
        const exact = this.at(Math.floor(row), Math.floor(col));
        if (exact !== null) return exact;
        let [best, bestDistance] = [null as number | null, reach ** 2];
        for (let y = Math.floor(row - reach); y <= row + reach; y++) {
            for (let x = Math.floor(col - reach); x <= col + reach; x++) {
                const distance = (y + 0.5 - row) ** 2 + (x + 0.5 - col) ** 2;
                const number = distance <= bestDistance ? this.at(y, x) : null;
                if (number !== null) [best, bestDistance] = [number, distance];
            }
        }
        return best;
    }

    /** The next edge pixel in a direction: near, and rather ahead than to the side. */
    next(from: number, dy: number, dx: number): number {
        const [row, col] = [this.row(from), this.col(from)];
        let [best, bestCost] = [from, Infinity];
        for (let number = 0; number < this.places.length; number++) {
            const [y, x] = [this.row(number) - row, this.col(number) - col];
            const ahead = y * dy + x * dx;
            const aside = Math.abs(y * dx) + Math.abs(x * dy);
            const cost = ahead + 2 * aside;
            if (ahead > 0 && aside <= ahead && cost < bestCost) [best, bestCost] = [number, cost];
        }
        return best;
    }

    /** The edge pixel nearest to the middle of the patch, or null where there is none. */
    central(): number | null {
        return this.near(this.side / 2, this.side / 2, this.side);
    }
}
