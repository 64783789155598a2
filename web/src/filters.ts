// The form beside the grid: what it asks for, and how the patches spread over densities.

import type { StoreDescription } from "./api.js";
import { element } from "./dom.js";
import type { Filter, Order, PatchTable } from "./table.js";

const NUM_STEPS = 52;

export class Filters {
    private readonly form = element<HTMLFormElement>("filters");
    private readonly text = element<HTMLInputElement>("filter-text");
    private readonly folder = element<HTMLSelectElement>("filter-folder");
    private readonly scale = element<HTMLSelectElement>("filter-scale");
    private readonly order = element<HTMLSelectElement>("filter-order");
    private readonly least = element<HTMLInputElement>("density-min");
    private readonly most = element<HTMLInputElement>("density-max");

    constructor(
        private readonly table: PatchTable,
        description: StoreDescription,
        onChange: (filter: Filter) => void,
    ) {
        const name = (folder: string): string => folder || description.dataset;
        fill(this.folder, "all", table.folders, name);
        fill(this.scale, "all", table.columns.scales, (scale) => (scale === "1" ? "the image itself" : scale));
        this.form.addEventListener("input", (event) => {
            if (event.target === this.least) this.most.value = String(Math.max(+this.most.value, +this.least.value));
            if (event.target === this.most) this.least.value = String(Math.min(+this.most.value, +this.least.value));
            onChange(this.read());
        });
        this.form.addEventListener("submit", (event) => event.preventDefault());
        this.form.addEventListener("reset", () => setTimeout(() => onChange(this.read())));
    }

    focus(): void {
        this.text.focus();
        this.text.select();
    }

    read(): Filter {
        const chosen = (select: HTMLSelectElement): string | null =>
            select.selectedIndex === 0 ? null : select.selectedOptions[0].value;
        return {
            folder: chosen(this.folder),
            scale: chosen(this.scale),
            text: this.text.value,
            minDensity: this.density(this.least),
            maxDensity: +this.most.value === 100 ? Infinity : this.density(this.most), // the largest has no rounding
            order: this.order.value as Order,
        };
    }

    /** Say how many patches were found, and where they lie among all densities. */
    showFound(indices: Int32Array): void {
        const total = this.table.numPatches;
        element("found").textContent =
            indices.length === total ? `${count(total)} patches` : `${count(indices.length)} of ${count(total)} patches`;
        const percent = (slider: HTMLInputElement): string => (100 * this.density(slider)).toFixed(1);
        element("density-shown").textContent = `${percent(this.least)} – ${percent(this.most)} %`;
        this.paint(this.table.histogram(indices, NUM_STEPS));
    }

    private density(slider: HTMLInputElement): number {
        return (+slider.value / 100) * this.table.maxDensity;
    }

    private paint(found: number[]): void {
        const canvas = element<HTMLCanvasElement>("density-histogram");
        const [width, height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio];
        if (width === 0) return;
        [canvas.width, canvas.height] = [width, height];
        const all = this.table.histogram(this.table.density.keys(), NUM_STEPS);
        const tallest = Math.max(...all, 1);
        const context = canvas.getContext("2d")!;
        const style = getComputedStyle(canvas);
        for (const [counts, colour] of [[all, "--line"], [found, "--accent"]] as const) {
            context.fillStyle = style.getPropertyValue(colour);
            counts.forEach((value, step) => {
                const bar = Math.max((value / tallest) * height, value > 0 ? devicePixelRatio : 0);
                const step_width = width / NUM_STEPS;
                context.fillRect(step * step_width, height - bar, Math.max(step_width - 1, 1), bar);
            });
        }
    }
}

const count = (value: number): string => value.toLocaleString("en-GB");

function fill(select: HTMLSelectElement, all: string, values: string[], name: (value: string) => string): void {
    const isChoice = values.length > 1;
    select.append(new Option(isChoice ? all : name(values[0] ?? "")));
    if (isChoice) select.append(...values.map((value) => new Option(name(value), value)));
    select.disabled = !isChoice;
}
