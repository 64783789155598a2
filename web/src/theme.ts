// Light, dark, or as the system has it; remembered by the browser.

import { element } from "./dom.js";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const SIGNS: Record<Theme, string> = { system: "◐", light: "☀", dark: "☾" };
const KEY = "ssl-data-theme";

let theme: Theme = "system";

export function setUpTheme(onChange: () => void): void {
    const remembered = localStorage.getItem(KEY) as Theme | null;
    apply(remembered !== null && THEMES.includes(remembered) ? remembered : "system");
    element("theme").addEventListener("click", () => nextTheme(onChange));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
}

export function nextTheme(onChange: () => void): void {
    apply(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
    localStorage.setItem(KEY, theme);
    onChange();
}

function apply(chosen: Theme): void {
    theme = chosen;
    document.documentElement.dataset.theme = theme;
    element("theme").textContent = SIGNS[theme];
    element("theme").setAttribute("aria-label", `Colours: ${theme}`);
}

export function isDark(): boolean {
    return theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
}
