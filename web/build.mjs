// Builds the page of `ssl-data view` from src/ into the package: `npm ci && npm run build`. With --check nothing is
// written; it exits with 1 where the files in the package are not what a build gives.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const assets = join(here, "..", "ssl_data", "view", "assets");
const bundled = ["zarrita", "@zarrita/storage", "fzstd"];

async function built() {
    const result = await build({
        entryPoints: { view: join(here, "src/main.ts") },
        outdir: assets,
        bundle: true,
        // Our own decoders in place of those in WebAssembly, which are twenty times as large and ask for the right to
        // evaluate strings as code.
        alias: {
            "numcodecs/blosc": join(here, "src/codecs/blosc.ts"),
            "numcodecs/zstd": join(here, "src/codecs/zstd.ts"),
            "numcodecs/lz4": join(here, "src/codecs/none.ts"),
        },
        format: "esm",
        target: "es2022",
        minify: true,
        charset: "utf8",
        legalComments: "none", // the licences have a file of their own
        write: false,
    });
    const files = new Map(result.outputFiles.map((file) => [file.path.slice(assets.length + 1), file.text]));
    for (const name of ["index.html", "view.css"]) files.set(name, await readFile(join(here, "src", name), "utf8"));
    files.set("LICENSES.txt", await licences());
    return files;
}

async function licences() {
    const parts = ["What the page is made of besides our own code, and under which licences.\n"];
    for (const name of bundled) {
        const folder = join(here, "node_modules", name);
        const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
        const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
        const text = file === undefined ? "" : `\n${(await readFile(join(folder, file), "utf8")).trim()}\n`;
        parts.push(`${name} ${version} (${license})\n${text}`);
    }
    return parts.join(`\n${"-".repeat(80)}\n\n`);
}

async function differences(files) {
    const there = await readdir(assets).catch(() => []);
    const found = there.filter((name) => !files.has(name)).map((name) => `${name} does not belong there`);
    for (const [name, text] of files) {
        const committed = there.includes(name) ? await readFile(join(assets, name), "utf8") : undefined;
        if (committed !== text) found.push(`${name} ${committed === undefined ? "is missing" : "differs"}`);
    }
    return found;
}

const files = await built();
if (process.argv.includes("--check")) {
    const found = await differences(files);
    for (const line of found) console.error(`ssl_data/view/assets/${line}`);
    if (found.length > 0) {
        console.error("the page in the package is not that of web/src: run `npm run build` in web/");
        process.exit(1);
    }
} else {
    await rm(assets, { recursive: true, force: true });
    await mkdir(assets, { recursive: true });
    for (const [name, text] of files) await writeFile(join(assets, name), text);
}
