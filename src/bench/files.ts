// The files of `turl bench --out DIR`: results as JSON, CSV and Markdown, the roofline as SVG and PNG, and one page of all.
import { join } from 'node:path';
import sharp from 'sharp';
import { renderSvg } from '../report/figure.js';
import { renderPage, type Block } from '../report/page.js';
import { writeAtomic } from '../train/atomic.js';
import type { Results } from './results.js';
import { rooflineFigure } from './roofline.js';
import { ceilingsText, csvTable, factsText, markdownOf, resultRows } from './table.js';

const explanation =
  'ms: median with caches warm and its 95 % interval from order statistics. Cold: after 64 MiB were ' +
  'written elsewhere. GFLOP/s: operations of the plain formula a second. GB/s: every input read once and every output written once. ' +
  'Share: the time that the bounding ceiling allows, divided by the time taken. Error: against the formula in double precision.';

/** The names of what was written to a folder. */
export async function writeFiles(out: string, results: Results): Promise<string[]> {
  const table = resultRows(results);
  const figure = rooflineFigure(results);
  const blocks: Block[] = [
    { kind: 'paragraph', text: `Ceilings measured in the same run: ${ceilingsText(results)}.` },
    ...(figure ? [{ kind: 'figure', figure } as const] : []),
    { kind: 'heading', text: 'All kernels' },
    { kind: 'paragraph', text: explanation },
    { kind: 'table', ...table },
  ];
  const files: [string, string | Buffer][] = [
    ['results.json', `${JSON.stringify(results, null, 2)}\n`],
    ['results.csv', await csvTable(resultRows(results, 'all'))],
    ['results.md', markdownOf(results)],
    ['index.html', renderPage('How fast the kernels are', factsText(results), blocks)],
  ];
  if (figure) {
    const svg = renderSvg(figure, 'light');
    files.push(['roofline.svg', svg]);
    files.push(['roofline.png', await sharp(Buffer.from(svg), { density: 192 }).png().toBuffer()]);
  }
  for (const [name, contents] of files) writeAtomic(join(out, name), contents);
  return files.map(([name]) => name);
}
