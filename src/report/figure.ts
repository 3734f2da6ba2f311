/**
 * A picture of a report: an ECharts option, what it shows in words, and the numbers as a table for those who want them exactly or cannot
 * see it. It becomes SVG on the server: no script is in the page. Its colours are names until it is drawn, so that a page can be light, dark or
 * printed with the same picture.
 */
import * as echarts from 'echarts';

export interface Figure {
  /** For file names and links: lower case, dashes. */
  readonly id: string;
  readonly title: string;
  /** What is shown and how it was measured, in a sentence or two. */
  readonly about: string;
  readonly width: number;
  readonly height: number;
  readonly option: echarts.EChartsCoreOption;
  readonly table: {
    readonly head: readonly string[];
    readonly rows: readonly (readonly (string | number)[])[];
  };
}

/** Stand for what the page or the picture's theme chooses. */
export const ink = '#010203';
export const faint = '#010204';
export const line = '#010205';
export const paper = '#010206';

/** Okabe and Ito's colours, told apart with any colour vision. */
export const palette = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9', '#8c8c8c'];
export const colourOf = (index: number): string => palette[index % palette.length] ?? ink;

/** How often the colours have been used up before `index`. */
const round = (index: number) => Math.floor(index / palette.length);

/** A curve; those beyond the colours are dashed, then dotted. */
export const curve = (index: number) => ({
  type: 'line',
  symbol: 'none',
  lineStyle: { width: 2, color: colourOf(index), type: ['solid', 'dashed', 'dotted'][round(index) % 3] },
  itemStyle: { color: colourOf(index) },
});

/** The fill of a bar; those beyond the colours have stripes, then dots. */
export const fill = (index: number) => {
  const stripes = { symbol: 'rect', dashArrayX: [1, 0], dashArrayY: [2, 4], rotation: -Math.PI / 4 };
  const dots = { symbol: 'circle', symbolSize: 0.7, dashArrayX: [[6, 6], [0, 6, 6, 0]], dashArrayY: [6, 0] }; // prettier-ignore
  const pattern = [null, stripes, dots][round(index) % 3];
  return { color: colourOf(index), decal: pattern && { ...pattern, color: paper } };
};

const light = { [ink]: '#1b1f24', [faint]: '#59636e', [line]: '#d1d9e0', [paper]: '#ffffff' };
const variables = {
  [ink]: 'var(--ink)',
  [faint]: 'var(--faint)',
  [line]: 'var(--line)',
  [paper]: 'var(--paper)',
};

const text = { color: faint, fontSize: 12, fontFamily: 'system-ui, sans-serif' };

/** An axis with a name, in the colours of the page. */
export function axis(name: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name,
    nameLocation: 'middle',
    nameGap: 30,
    nameTextStyle: text,
    axisLabel: { ...text, hideOverlap: true },
    axisLine: { show: true, onZero: false, lineStyle: { color: line } },
    axisTick: { lineStyle: { color: line } },
    splitLine: { lineStyle: { color: line } },
    ...more,
  };
}

/** Labels of an axis whose numbers need a form of their own. */
export const labels = (formatter: (value: number) => string) => ({ ...text, hideOverlap: true, formatter });

/**
 * Limits and ticks of an axis that shows all `values`: round steps, some three to six, and labels with the digits that the step needs. ECharts'
 * own begin at a limit that is given, round or not, and label nearly equal values with all their digits.
 * @param least the axis covers at least so much
 * @param most there are no values above it
 */
export function ticks(values: Iterable<number>, least: number, most = Infinity) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values)
    if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low > high) [low, high] = [0, least];
  if (high - low < least) {
    const middle = Math.min((low + high) / 2, most - least / 2);
    low = low >= 0 ? Math.max(0, middle - least / 2) : middle - least / 2;
    high = low + least;
  }
  const rough = (high - low) / 6;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const interval = ten * ([1, 2, 5].find((step) => step * ten >= rough * (1 - 1e-9)) ?? 10);
  const digits = Math.max(0, -Math.floor(Math.log10(interval) + 1e-9));
  const shown = new Intl.NumberFormat('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const limit = (count: number) => Number((count * interval).toFixed(digits));
  return {
    min: limit(Math.floor(low / interval + 1e-9)),
    max: limit(Math.ceil(high / interval - 1e-9)),
    interval,
    axisLabel: labels((value) => (Math.abs(value) < interval / 2 ? '0' : shown.format(value))),
  };
}

/** A power of ten as people write it: 0.001, 1e-6. */
export const power = (value: number): string => {
  const round = Number(value.toPrecision(1));
  return round >= 1e-3 && round < 1e5 ? String(round) : round.toExponential(0);
};

/** Pixels that a text of 12 pixels may take. */
export const textWidth = (name: string): number => 7.2 * name.length;

/** The longest of `names` on an axis of categories `width` pixels long: upright, or slanted where they would meet; none is left out. */
export function categoryLabels(names: readonly string[], width: number) {
  const longest = Math.min(260, Math.max(0, ...names.map(textWidth)));
  const rotate = longest + 8 > width / names.length ? 35 : 0;
  return {
    axisLabel: { ...text, interval: 0, rotate, width: 260, overflow: 'truncate' },
    /** Pixels below the axis beyond those of upright ones. */
    more: rotate === 0 ? 0 : Math.ceil(longest * Math.sin((rotate * Math.PI) / 180)),
  };
}

// On the server the width of a text is a guess, often too small: there is room to spare between the entries.
export const legend = {
  top: 0,
  left: 'center',
  textStyle: { ...text, padding: [0, 18, 0, 0] },
  itemGap: 16,
  itemWidth: 18,
  itemHeight: 10,
  icon: 'roundRect',
};

/**
 * A legend above a plot: one line where the names find room on it, else a line for each.
 * @param width of the picture
 * @returns the legend, and how many pixels the plot goes down for it beyond the first line
 */
export function legendOf(names: readonly string[], width: number) {
  const used = names.reduce((sum, name) => sum + textWidth(name) + 58, 0);
  const many = names.length > palette.length ? { icon: undefined, itemWidth: 28 } : {};
  if (used <= width) return { legend: { ...legend, ...many }, more: 0 };
  return {
    legend: { ...legend, ...many, orient: 'vertical', left: 40, itemGap: 8 },
    more: 20 * (names.length - 1),
  };
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
export const escapeXml = (raw: string): string => raw.replace(/[&<>"]/g, (c) => escapes[c] ?? c);

/** For ids and names of files: what else a name has becomes dashes. */
export const plainName = (name: string): string => name.replace(/[^a-z0-9]+/gi, '-');

/** @param theme `page`: colours are CSS variables; `light`: a picture of its own, on white */
export function renderSvg(figure: Figure, theme: 'page' | 'light'): string {
  const { id, title, about, width, height, option } = figure;
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({ animation: false, color: palette, ...option });
    const colours = theme === 'page' ? variables : light;
    let svg = chart.renderToSVGString();
    // ECharts numbers its classes and clips over the life of the process; a picture's are its own and the same each time.
    const numbers = new Map<string, number>();
    svg = svg.replace(/zr\d+-(c|g|p|cls-?)(\d+)/g, (name) => {
      if (!numbers.has(name)) numbers.set(name, numbers.size);
      return `${id}-${numbers.get(name) ?? 0}`;
    });
    for (const [name, colour] of Object.entries(colours)) svg = svg.replaceAll(name, colour);
    const labels = `<title>${escapeXml(title)}</title><desc>${escapeXml(about)}</desc>`;
    const ground = theme === 'light' ? `<rect width="${width}" height="${height}" fill="#ffffff"/>` : '';
    return svg.replace(
      /^<svg ([^>]*)>/,
      (_, attributes: string) => `<svg ${attributes} role="img">${labels}${ground}`,
    );
  } finally {
    chart.dispose();
  }
}
