// An experiment is a chain of layers: the files it extends, oldest first, then the file itself, then each `--set a.b=c`. A layer is
// a tree of plain values that remembers where every key was written, so that a mistake found later can still be shown in its place.
import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import * as YAML from 'yaml';
import { UserError } from '../tensor/errors.js';
import { nearest } from './nearest.js';

/** A path such as ['loss', 'margin'] or ['train', 'milestones', 2]. */
export type Path = readonly (string | number)[];

/** A change on top of the files; `source` is named in messages, for example `--set loss.margin=20`. */
export interface Override {
  source: string;
  path: string;
  value: unknown;
}

type Tree = Record<string, unknown>;

export const isTree = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export class Layers {
  tree: Tree = {};
  readonly #origins = new Map<string, string>();

  /** Where a key was written (`file:line` or the override); for one that nobody wrote, that of the section around it. */
  origin(path: Path): string {
    for (let length = path.length; length >= 0; length--) {
      const found = this.#origins.get(path.slice(0, length).join('.'));
      if (found !== undefined) return found;
    }
    return 'config';
  }

  /** Whether somebody wrote this key, rather than leaving it to its default. */
  written(path: Path): boolean {
    return this.#origins.has(path.join('.'));
  }

  /** Puts a file on top: sections are merged, anything else is replaced. */
  add(tree: Tree, origin: (path: Path) => string): void {
    this.tree = this.#merge(this.tree, tree, [], origin);
    this.#origins.set('', origin([]));
  }

  /** Puts one changed key on top. */
  override({ source, path, value }: Override): void {
    const tree = path.split('.').reduceRight((inner: unknown, key) => ({ [key]: inner }), value);
    this.tree = this.#merge(this.tree, tree as Tree, [], () => source);
  }

  #merge(below: Tree, above: Tree, path: Path, origin: (path: Path) => string): Tree {
    if (path.length > 0) this.#origins.set(path.join('.'), origin(path));
    const merged = new Map(Object.entries(below));
    for (const [key, value] of Object.entries(above)) {
      const at = [...path, key];
      const old = merged.get(key);
      if (isTree(value)) merged.set(key, this.#merge(isTree(old) ? old : {}, value, at, origin));
      else {
        merged.set(key, value);
        this.#origins.set(at.join('.'), origin(at));
        if (Array.isArray(value))
          value.forEach((_, i) => this.#origins.set([...at, i].join('.'), origin([...at, i])));
      }
    }
    return Object.fromEntries(merged);
  }
}

/** `a.b=c`, the value written as YAML: numbers, true, null, [1, 2] and {blur: 7} mean what they mean in a file. */
export function parseOverride(text: string): Override {
  const source = `--set ${text}`;
  const equals = text.indexOf('=');
  const path = text.slice(0, equals).trim();
  if (equals < 0 || path.split('.').some((key) => key === ''))
    throw new UserError(`${source}: expected key.key=value, for example loss.margin=20`);
  const document = YAML.parseDocument(text.slice(equals + 1), { stringKeys: true });
  const error = document.errors[0];
  if (error) throw new UserError(`${source}: the value is not valid YAML: ${reason(error)}`);
  return { source, path, value: toPlain(document, source) };
}

/** Adds the file's chain to `layers`, oldest first. */
export function addFile(layers: Layers, file: string, chain: readonly string[] = [], from = ''): void {
  const below = relative('', file);
  const shown = below === '' || below.startsWith('..') ? file : below;
  const text = readText(file, shown, from);
  const real = realpathSync(file);
  if (chain.includes(real))
    throw new UserError(
      `${from} goes round in a circle: ${[...chain.slice(chain.indexOf(real)), real].map((f) => basename(f)).join(' -> ')}`,
    );
  const lines = new YAML.LineCounter();
  const document = YAML.parseDocument(text, { lineCounter: lines, stringKeys: true });
  const error = document.errors[0];
  if (error)
    throw new UserError(`${shown}:${lines.linePos(error.pos[0]).line}: malformed YAML: ${reason(error)}`);
  const tree = toPlain(document, shown);
  if (!isTree(tree))
    throw new UserError(`${shown}:1: expected a mapping (key: value), got ${describeValue(tree)}`);
  const origin = (path: Path) => `${shown}:${lineOf(document, lines, path)}`;
  const { extends: base, ...own } = tree;
  if (base !== undefined) {
    if (typeof base !== 'string')
      throw new UserError(
        `${origin(['extends'])}: extends: expected a file name, got ${describeValue(base)}`,
      );
    addFile(layers, resolve(dirname(file), base), [...chain, real], `${origin(['extends'])}: extends`);
    // What a base is called and for says nothing about those that extend it.
    delete layers.tree['purpose'];
  }
  layers.add({ name: basename(file, extname(file)), ...own }, origin);
}

function readText(file: string, shown: string, from: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const at = from === '' ? '' : `${from}: `;
    if (code === 'EISDIR') throw new UserError(`${at}${shown} is a folder, expected a YAML file`);
    if (code !== 'ENOENT') throw new UserError(`${at}${shown} cannot be read: ${String(code ?? error)}`);
    const near = nearest(basename(file), filesIn(dirname(file)));
    const hint = near === undefined ? '' : `, did you mean "${relative('', join(dirname(file), near))}"?`;
    throw new UserError(`${at}no such file: ${shown}${hint}`);
  }
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function toPlain(document: YAML.Document, shown: string): unknown {
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    throw new UserError(`${shown}: ${error instanceof Error ? firstLine(error.message) : String(error)}`);
  }
  if (isCyclic(value))
    throw new UserError(`${shown}: expected no alias (*) inside what it stands for (&), found one`);
  return value;
}

const isCyclic = (value: unknown, around: readonly unknown[] = []): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (around.includes(value) || Object.values(value).some((inner) => isCyclic(inner, [...around, value])));

/** The line a key stands on; for a list item, that of the item. */
function lineOf(document: YAML.Document, lines: YAML.LineCounter, path: Path): number {
  let node: unknown = document.contents;
  let line = 1;
  for (const key of path) {
    if (YAML.isMap(node)) {
      const pair = node.items.find((item) => YAML.isScalar(item.key) && String(item.key.value) === key);
      if (!pair) break;
      line = startLine(lines, pair.key) ?? line;
      node = pair.value;
    } else if (YAML.isSeq(node)) {
      node = node.items[Number(key)];
      line = startLine(lines, node) ?? line;
    } else break;
  }
  return line;
}

function startLine(lines: YAML.LineCounter, node: unknown): number | undefined {
  return YAML.isNode(node) && node.range ? lines.linePos(node.range[0]).line : undefined;
}

const firstLine = (message: string) =>
  (message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');

/** What is wrong with a document. */
function reason({ code, message }: YAML.YAMLError): string {
  if (code === 'MULTIPLE_DOCS') return 'expected one document, found a second one';
  return code === 'NON_STRING_KEY' ? 'expected text as a key' : firstLine(message);
}

/** A value as a message shows it. */
export function describeValue(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (typeof value === 'number') return String(value);
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
