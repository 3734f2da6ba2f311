// An inspection in words.
import prettyBytes from 'pretty-bytes';
import type { Inspection } from './inspect.js';

const shown = 5;
const some = (lines: readonly string[]): string[] => [
  ...lines.slice(0, shown).map((line) => `  ${line}`),
  ...(lines.length > shown ? [`  and ${lines.length - shown} more`] : []),
];
const kinds = {
  folder: 'a folder of images',
  recordio: 'RecordIO',
  bin: 'a verification set',
  list: 'a list of images',
  parquet: 'Parquet',
} as const;
const rgb = (values: readonly number[]) => values.map((value) => value.toFixed(1)).join(', ');

export function inspectionText(found: Inspection): string {
  const { imagesPerIdentity: each, duplicates, broken, bytes, sizes, pairs, mean, std } = found;
  const { within, across } = duplicates;
  return [
    `${found.path}: ${kinds[found.kind]}`,
    `${found.images} images` +
      (each
        ? ` of ${found.identities} identities: ${each.least} to ${each.most} each, the middle one ${each.median}`
        : ''),
    ...(pairs ? [`${pairs.genuine} genuine and ${pairs.impostor} impostor pairs`] : []),
    ...(sizes.length > 0
      ? [
          `size: ${sizes
            .slice(0, shown)
            .map(({ width, height, images }) => `${width}x${height} (${images})`)
            .join(', ')}${sizes.length > shown ? ` and ${sizes.length - shown} other sizes` : ''}`,
        ]
      : []),
    ...(bytes
      ? [
          `file: ${prettyBytes(bytes.least)} to ${prettyBytes(bytes.most)}, the middle one ${prettyBytes(bytes.median)}`,
        ]
      : []),
    ...(mean && std
      ? [
          `pixels (red, green, blue): mean ${rgb(mean)}, standard deviation ${rgb(std)}`,
          `colour order: ${found.colourOrder ?? 'nothing odd'}`,
        ]
      : []),
    `images that are there more than once: ${within.length}`,
    ...some(within.map((group) => group.join(' = '))),
    ...(across.length > 0 ? [`images that are in both sets: ${across.length}`] : []),
    ...some(across.map(([mine, theirs]) => `${mine} = ${theirs}`)),
    `broken images: ${broken.length}`,
    ...some(broken.map(({ image, reason }) => `${image}: ${reason}`)),
    ...found.notes,
  ].join('\n');
}
