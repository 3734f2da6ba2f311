/**
 * YouTube Faces: DIR/splits.txt has a line of names and 5,000 lines `split, number, NAME/VIDEO, NAME/VIDEO, 1 or 0` in 10 splits; the
 * frames of a video are in DIR/aligned_images_DB/NAME/VIDEO. A video is a template of one medium.
 */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { byName } from '../../data/formats/identities.js';
import { isImageName } from '../../data/image-file.js';
import { UserError } from '../../tensor/errors.js';
import { Int32List, malformed, Numbering, readLines } from './metadata.js';
import type { ImagePlaces, ProtocolSet } from './protocol.js';

function framesIn(folder: string, video: string): string[] {
  if (!existsSync(folder)) return [];
  const frames = readdirSync(folder).filter(isImageName);
  return frames.sort(byName).map((name) => `${video}/${name}`);
}

function framesByVideo(names: readonly string[]): (video: string) => string[] {
  const frames = new Map<string, string[]>();
  for (const name of names) {
    const video = dirname(name);
    const known = frames.get(video);
    if (known) known.push(name);
    else frames.set(video, [name]);
  }
  return (video) => frames.get(video) ?? [];
}

export function openYtf(dir: string, { images, names }: ImagePlaces): ProtocolSet {
  const list = join(dir, 'splits.txt');
  const root = images ?? join(dir, 'aligned_images_DB');
  const videos = new Numbering<string>();
  const [first, second, genuine, fold] = [new Int32List(), new Int32List(), new Int32List(), new Int32List()];
  for (const { text, line } of readLines(list)) {
    const [split = '', number = '', a = '', b = '', same = '', ...more] = text
      .split(',')
      .map((cell) => cell.trim());
    if (line === 1 && !/^\d/.test(text)) continue;
    const video = /^[^/]+\/[^/]+$/;
    if (
      !/^[1-9]\d?$/.test(split) ||
      !/^\d+$/.test(number) ||
      !video.test(a) ||
      !video.test(b) ||
      !/^[01]$/.test(same) ||
      more.length > 0
    )
      throw malformed(list, line, 'split, number, NAME/VIDEO, NAME/VIDEO, 1 or 0', text);
    first.push(videos.of(a));
    second.push(videos.of(b));
    genuine.push(Number(same));
    fold.push(Number(split) - 1);
  }
  if (first.length === 0) throw new UserError(`${list}: expected pairs of videos, found none`);
  const people = new Numbering<string>();
  const files: string[] = [];
  const framesOf = names ? framesByVideo(names) : (video: string) => framesIn(join(root, video), video);
  const media = videos.keys.map((video) => [framesOf(video).map((name) => files.push(name) - 1)]);
  return {
    title: 'YouTube Faces',
    rule: 'the pairs of videos listed, in their splits; all frames of a video are one medium',
    root,
    files,
    landmarks: null,
    media,
    templateName: (template) => videos.keys[template] ?? '',
    people: Int32Array.from(videos.keys, (video) => people.of(video.split('/')[0] ?? '')),
    tasks: [
      {
        kind: 'folds',
        name: 'pairs of videos',
        far: [1e-3, 1e-2],
        comparisons: {
          first: first.toArray(),
          second: second.toArray(),
          genuine: Uint8Array.from(genuine.toArray()),
        },
        fold: fold.toArray(),
      },
    ],
  };
}
