/** Lines of the field's metadata files, one at a time however long the file is; what is wrong is told by file and line. */
import { existsSync } from 'node:fs';
import { linesOf } from '../../data/formats/lines.js';
import { UserError } from '../../tensor/errors.js';

/** The lines that are not empty, with their numbers from 1. @throws UserError when the file cannot be read */
export function* readLines(file: string): Generator<{ text: string; line: number }> {
  let line = 0;
  for (const whole of linesOf(file)) {
    line++;
    const text = whole.trim();
    if (text !== '') yield { text, line };
  }
}

/** The complaint about a line. */
export function malformed(file: string, line: number, expected: string, found: string): UserError {
  return new UserError(`${file}:${line}: expected ${expected}, found "${found.slice(0, 80)}"`);
}

/** A whole number, or undefined. */
export function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** The first of the files that exists. @throws UserError that names them all */
export function oneOf(files: readonly string[]): string {
  const found = files.find((file) => existsSync(file));
  if (found === undefined) throw new UserError(`expected the file ${files.join(' or ')}, found none`);
  return found;
}

/** A row of an IJB table, in which a face of a template is. */
export interface FaceRow {
  readonly template: number;
  readonly subject: number;
  readonly file: string;
  /** The medium: MEDIA_ID, or where there is none SIGHTING_ID; empty where the table has neither. */
  readonly medium: string;
  readonly sighting: string;
  readonly line: number;
}

/** Reads a comma-separated table whose first line names its columns, TEMPLATE_ID, SUBJECT_ID and FILE or FILENAME among them. */
export function* readFaceTable(file: string): Generator<FaceRow> {
  let columns:
    { template: number; subject: number; file: number; medium: number; sighting: number } | undefined;
  let width = 0;
  for (const { text, line } of readLines(file)) {
    const cells = text.split(',').map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'));
    if (!columns) {
      const names = cells.map((cell) => cell.toUpperCase());
      const at = (...wanted: string[]) => names.findIndex((name) => wanted.includes(name));
      const media = at('MEDIA_ID');
      const sighting = at('SIGHTING_ID');
      columns = {
        template: at('TEMPLATE_ID'),
        subject: at('SUBJECT_ID'),
        file: at('FILE', 'FILENAME'),
        medium: media < 0 ? sighting : media,
        sighting,
      };
      if (columns.template < 0 || columns.subject < 0 || columns.file < 0)
        throw malformed(file, line, 'the columns TEMPLATE_ID, SUBJECT_ID and FILE or FILENAME', text);
      width = cells.length;
      continue;
    }
    const [template, subject] = [wholeNumber(cells[columns.template]), wholeNumber(cells[columns.subject])];
    const path = cells[columns.file];
    if (template === undefined || subject === undefined || !path || cells.length !== width)
      throw malformed(
        file,
        line,
        `${width} cells with whole numbers as template and subject, and a file`,
        text,
      );
    yield {
      template,
      subject,
      file: path,
      medium: cells[columns.medium] ?? '',
      sighting: cells[columns.sighting] ?? '',
      line,
    };
  }
  if (!columns) throw malformed(file, 1, 'a line of column names', '');
}

/** Gives each new key the next number. */
export class Numbering<K> {
  readonly #numbers = new Map<K, number>();
  readonly keys: K[] = [];

  of(key: K): number {
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    this.#numbers.set(key, this.keys.length);
    return this.keys.push(key) - 1;
  }
  find(key: K): number | undefined {
    return this.#numbers.get(key);
  }
}

/** Whole numbers as they come. */
export class Int32List {
  #values = new Int32Array(1024);
  length = 0;

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new Int32Array(2 * this.length);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length++] = value;
  }
  toArray(): Int32Array {
    return this.#values.slice(0, this.length);
  }
}

/** Templates as their faces come: images by medium, and the person. */
export class TemplateTable {
  readonly #ids = new Numbering<string>();
  readonly #media: Map<string, number[]>[] = [];
  readonly #people: number[] = [];

  /** The template's number; made where there is none yet. */
  template(id: string): number {
    const at = this.#ids.of(id);
    this.#media[at] ??= new Map<string, number[]>();
    this.#people[at] ??= -1;
    return at;
  }
  find(id: string): number | undefined {
    return this.#ids.find(id);
  }
  addImage(template: number, medium: string, image: number): void {
    const media = this.#media[template];
    const known = media?.get(medium);
    if (known) known.push(image);
    else media?.set(medium, [image]);
  }
  person(template: number): number {
    return this.#people[template] ?? -1;
  }
  setPerson(template: number, person: number): void {
    this.#people[template] = person;
  }
  name(template: number): string {
    return this.#ids.keys[template] ?? '';
  }
  media(): readonly (readonly (readonly number[])[])[] {
    return this.#media.map((media) => [...media.values()]);
  }
  people(): Int32Array {
    return Int32Array.from(this.#people);
  }
}
