/** The page: everything in one file, no script and nothing fetched; light or dark as the reader's system says, and fit to be printed. */
import { escapeXml, renderSvg, type Figure } from './figure.js';

export type Block =
  | { readonly kind: 'heading'; readonly text: string }
  | { readonly kind: 'paragraph'; readonly text: string }
  | {
      readonly kind: 'table';
      readonly head: readonly string[];
      readonly rows: readonly (readonly (string | number)[])[];
    }
  | { readonly kind: 'figure'; figure: Figure }
  | { readonly kind: 'details'; readonly title: string; readonly text: string }
  | {
      readonly kind: 'images';
      readonly title: string;
      readonly images: readonly { name: string; caption: string; png: Buffer }[];
    };

const style = `
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #59636e; --line: #d1d9e0; --paper: #ffffff; --panel: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9ba6b2; --line: #3d444d; --paper: #0d1117; --panel: #161b22; } }
@media print { :root { --ink: #000; --faint: #444; --line: #bbb; --paper: #fff; --panel: #fff; } figure, table, .images { break-inside: avoid; } details { display: none; } h2 { break-after: avoid; } .scroll { overflow: visible; } table { font-size: .78rem; } th, td { padding: .2rem .4rem; white-space: normal; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; } h2 { margin: 3rem 0 .75rem; font-size: 1.35rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
p, figcaption { max-width: 46rem; } figcaption { color: var(--faint); font-size: .92rem; } figcaption b { color: var(--ink); display: block; font-size: 1.02rem; margin-bottom: .15rem; }
figure { margin: 1.75rem 0; } figure svg { max-width: 100%; height: auto; display: block; margin-top: .5rem; } @media screen and (max-width: 40rem) { figure svg { max-width: none; } }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; } th:first-child, td:first-child { text-align: left; padding-left: 0; } th { color: var(--faint); font-weight: 600; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--faint); font-size: .92rem; } pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.45; }
.images { display: flex; flex-wrap: wrap; gap: .6rem; } .images div { width: 5.2rem; font-size: .75rem; color: var(--faint); overflow-wrap: anywhere; line-height: 1.3; } .images img { width: 100%; display: block; border-radius: 4px; }
`;

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const row = (cells: readonly (string | number)[], tag: 'th' | 'td') =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeXml(String(cell))}</${tag}>`).join('')}</tr>`;
  return `<div class="scroll"><table><thead>${row(head, 'th')}</thead><tbody>${rows.map((cells) => row(cells, 'td')).join('')}</tbody></table></div>`;
}

function blockHtml(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return `<h2>${escapeXml(block.text)}</h2>`;
    case 'paragraph':
      return `<p>${escapeXml(block.text)}</p>`;
    case 'table':
      return table(block.head, block.rows);
    case 'details':
      return `<details><summary>${escapeXml(block.title)}</summary><pre>${escapeXml(block.text)}</pre></details>`;
    case 'figure': {
      const { figure } = block;
      return (
        `<figure id="${figure.id}"><figcaption><b>${escapeXml(figure.title)}</b>${escapeXml(figure.about)}</figcaption>` +
        `<div class="scroll">${renderSvg(figure, 'page')}</div><details><summary>the numbers</summary>${table(figure.table.head, figure.table.rows)}</details></figure>`
      );
    }
    case 'images':
      return (
        `<p><b>${escapeXml(block.title)}</b></p><div class="images">` +
        block.images
          .map(
            ({ name, caption, png }) =>
              `<div><img alt="${escapeXml(name)}" src="data:image/png;base64,${png.toString('base64')}">${escapeXml(caption)}</div>`,
          )
          .join('') +
        '</div>'
      );
  }
}

export function renderPage(title: string, subtitle: string, blocks: readonly Block[]): string {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeXml(title)}</title><style>${style}</style></head>
<body>
<h1>${escapeXml(title)}</h1>
<p>${escapeXml(subtitle)}</p>
${blocks.map(blockHtml).join('\n')}
</body>
</html>
`;
}
