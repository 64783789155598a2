// Colours of values. The ramp is drawn in OKLCH, so that equal steps of value look like equal steps.

type Rgb = [red: number, green: number, blue: number];

function fromOklch(lightness: number, chroma: number, hue: number): Rgb {
    const angle = (hue * Math.PI) / 180;
    const [a, b] = [chroma * Math.cos(angle), chroma * Math.sin(angle)];
    const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
    const linear = [
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ];
    return linear.map((value) => {
        const shown = value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055;
        return Math.round(255 * Math.min(Math.max(shown, 0), 1));
    }) as Rgb;
}

const NUM_COLOURS = 256;

/** From dark violet to pale yellow. */
export const HEAT: Rgb[] = Array.from({ length: NUM_COLOURS }, (_, step) => {
    const t = step / (NUM_COLOURS - 1);
    return fromOklch(0.17 + 0.78 * t, 0.05 + 0.15 * Math.sin(Math.PI * Math.min(t * 1.05, 1)), 285 + 175 * t);
});

/** The colour of a value from 0 to 1. */
export function heat(value: number): Rgb {
    return HEAT[Math.round(Math.min(Math.max(value, 0), 1) * (NUM_COLOURS - 1))];
}

/** The colour of a value from -1 to 1: blue below, the background at 0, red above. */
export function diverging(value: number, isDark: boolean): Rgb {
    const strength = Math.min(Math.abs(value), 1);
    const lightness = isDark ? 0.27 + 0.45 * strength : 0.97 - 0.42 * strength;
    return fromOklch(lightness, 0.2 * strength, value < 0 ? 255 : 27);
}
