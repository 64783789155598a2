// The page of `ssl-data view`: all patches of a store, and each by itself. The part of the address behind # says which.

import { readPatches, readStore } from "./api.js";
import { StoreArrays } from "./arrays.js";
import { element } from "./dom.js";
import { Filters } from "./filters.js";
import { Grid, PICTURE } from "./grid.js";
import { PatchPage } from "./patch_page.js";
import { PatchTable, type Filter } from "./table.js";
import { nextTheme, setUpTheme } from "./theme.js";
import { Thumbnails } from "./thumbnails.js";

interface Place {
    index: number;
    pixel: readonly [number, number] | null;
}

/** An error and what is behind it, in one line. */
function sentenceOf(reason: unknown): string {
    if (!(reason instanceof Error)) return String(reason);
    return reason.cause === undefined ? reason.message : `${reason.message}: ${sentenceOf(reason.cause)}`;
}

function fail(reason: unknown): void {
    const failure = element("failure");
    failure.textContent = sentenceOf(reason);
    failure.hidden = false;
}

function placeOf(hash: string, numPatches: number): Place | null {
    const found = /^#\/patch\/(\d{1,15})(?:\/pixel\/(\d{1,9}),(\d{1,9}))?$/.exec(hash);
    if (found === null || Number(found[1]) >= numPatches) return null;
    return { index: Number(found[1]), pixel: found[2] === undefined ? null : [Number(found[2]), Number(found[3])] };
}

async function start(): Promise<void> {
    const description = await readStore();
    const [columns, arrays] = await Promise.all([readPatches(), StoreArrays.open(description)]);
    const table = new PatchTable(columns, description);
    document.title = `${description.dataset} – ssl-data view`;
    element("store-name").textContent = description.url.replace(/\/+$/, "").split("/").at(-1)!;
    element("store-name").title = description.url;
    const size = `${description.patch_size} × ${description.patch_size}`;
    const stride = description.edge_stride === 1 ? "" : `, edge stride ${description.edge_stride}`;
    element("store-facts").textContent = `${description.dataset}: ${table.numPatches.toLocaleString("en-GB")} patches of ${size}${stride}, ${description.quantization}`;

    const thumbnails = new Thumbnails(arrays, columns.slot, description.edge_stride, PICTURE * devicePixelRatio);
    const grid = new Grid(element("grid"), element("grid-space"), table, thumbnails, (index) => go({ index, pixel: null }));
    const page = new PatchPage(description, arrays, table, (row, col) => {
        const pixel = row < 0 ? null : ([row, col] as const);
        history.replaceState(null, "", addressOf({ index: placeOf(location.hash, table.numPatches)!.index, pixel }));
    }, fail);
    const onFilter = (filter: Filter): void => {
        const indices = table.select(filter);
        filters.showFound(indices);
        grid.show(indices);
    };
    const filters = new Filters(table, description, onFilter);

    const addressOf = (place: Place | null): string =>
        place === null ? "#/" : `#/patch/${place.index}${place.pixel === null ? "" : `/pixel/${place.pixel.join(",")}`}`;
    const go = (place: Place | null): void => {
        location.hash = addressOf(place);
    };
    const here = (): Place | null => placeOf(location.hash, table.numPatches);

    let last: number | null = null; // the patch that was shown before
    const show = (): void => {
        const place = here();
        element("failure").hidden = true;
        element("browse").hidden = place !== null;
        element("patch").hidden = place === null;
        if (place === null) {
            filters.showFound(table.select(filters.read()));
            grid.focus();
            if (last !== null) grid.activate(last);
            return;
        }
        last = place.index;
        const number = grid.placeOf(place.index);
        element("patch-position").textContent = number === 0 ? "" : `${number} of ${grid.numShown}`;
        element<HTMLButtonElement>("patch-previous").disabled = grid.neighbour(place.index, -1) === null;
        element<HTMLButtonElement>("patch-next").disabled = grid.neighbour(place.index, 1) === null;
        page.show(place.index, place.pixel).catch(fail);
        element("picture").focus({ preventScroll: true });
    };
    const step = (by: number): void => {
        const place = here();
        const next = place === null ? null : grid.neighbour(place.index, by);
        if (next !== null) go({ index: next, pixel: null });
    };
    const back = (): void => {
        const place = here();
        if (place === null) return;
        last = place.index; // its page may not have been shown yet: two keys can come before one `hashchange`
        go(null);
    };
    const mask = element<HTMLInputElement>("mask-shown");
    const showMasks = (): void => {
        grid.showMasks(mask.checked);
        page.picture.isMaskShown = mask.checked;
        page.picture.drawSoon();
    };
    const heat = element<HTMLInputElement>("heat-shown");
    const showHeat = (): void => {
        page.picture.isHeatShown = heat.checked;
        page.picture.drawSoon();
    };
    const repaint = (): void => {
        page.repaint();
        filters.showFound(table.select(filters.read()));
    };
    const help = element<HTMLDialogElement>("help");
    const toggle = (box: HTMLInputElement, changed: () => void): void => {
        box.checked = !box.checked;
        changed();
    };

    const onPatch: Record<string, () => void> = {
        "[": () => step(-1),
        "]": () => step(1),
        "+": () => page.picture.zoomBy(1.5),
        "=": () => page.picture.zoomBy(1.5),
        "-": () => page.picture.zoomBy(1 / 1.5),
        "0": () => page.picture.fit(),
        z: () => page.picture.zoomToPixel(),
        g: () => toggle(heat, showHeat),
        Escape: () => page.release() || back(),
    };
    const anywhere: Record<string, () => void> = {
        m: () => toggle(mask, showMasks),
        t: () => nextTheme(repaint),
        "?": () => help.showModal(),
    };
    document.addEventListener("keydown", (event) => {
        const isTyping = event.target instanceof HTMLInputElement && event.target.type === "search";
        if (event.ctrlKey || event.altKey || event.metaKey || help.open) return;
        if (isTyping) {
            if (event.key === "Escape" || event.key === "Enter") grid.focus();
            return;
        }
        const isPatch = here() !== null;
        const action = (isPatch ? onPatch[event.key] : undefined) ?? anywhere[event.key];
        if (action !== undefined) action();
        else if (event.key === "/" && !isPatch) filters.focus();
        else return;
        event.preventDefault();
    });

    const onClick = (id: string, action: () => void): void => element(id).addEventListener("click", action);
    onClick("patch-back", back);
    onClick("patch-previous", onPatch["["]);
    onClick("patch-next", onPatch["]"]);
    onClick("zoom-in", onPatch["+"]);
    onClick("zoom-out", onPatch["-"]);
    onClick("zoom-fit", onPatch["0"]);
    onClick("zoom-pixel", onPatch["z"]);
    onClick("help-open", anywhere["?"]);
    mask.addEventListener("change", showMasks);
    heat.addEventListener("change", showHeat);
    setUpTheme(repaint);
    window.addEventListener("hashchange", show);
    show();
    onFilter(filters.read());
    const place = here();
    if (place !== null) show(); // with its place among the patches
    document.documentElement.dataset.ready = "true";
}

start().catch(fail);
