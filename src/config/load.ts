// Reads an experiment: files and overrides are merged, checked against the schema, filled with its defaults and frozen.
// Each mistake gives one line: where it was written, the key, what was expected, what was found, and the nearest known name.
import * as YAML from 'yaml';
import * as z from 'zod';
import { UserError } from '../tensor/errors.js';
import { crossCheck, type Clash } from './cross-check.js';
import { addFile, describeValue, Layers, parseOverride, type Override, type Path } from './layers.js';
import { nearest } from './nearest.js';
import { configSchema, type Config } from './schema.js';

/** The experiment in `file` with everything it extends, changed by `overrides` (`a.b=c`, or what a command-line option sets). */
export function loadConfig(file: string, overrides: readonly (string | Override)[] = []): Config {
  const layers = new Layers();
  addFile(layers, file);
  return resolve(layers, overrides);
}

/** An experiment given as a value instead of a file. */
export function configFrom(
  values: Record<string, unknown>,
  overrides: readonly (string | Override)[] = [],
): Config {
  const layers = new Layers();
  layers.add({ name: 'unnamed', ...values }, () => 'config');
  return resolve(layers, overrides);
}

/** The resolved experiment as a file that loads to the same experiment. */
export function configToYaml(config: Config): string {
  return YAML.stringify(config, { collectionStyle: 'any', flowCollectionPadding: false });
}

/** The JSON schema of experiment files, for editors. */
export function configSchemaJson(): string {
  const file = configSchema.partial({ name: true }).extend({
    extends: z.string().optional().describe('The experiment this one changes, relative to this file.'),
  });
  return `${JSON.stringify(z.toJSONSchema(file, { io: 'input' }), null, 2)}\n`;
}

function resolve(layers: Layers, overrides: readonly (string | Override)[]): Config {
  for (const given of overrides) layers.override(typeof given === 'string' ? parseOverride(given) : given);
  return freeze(checked(configSchema, layers, crossCheck));
}

/**
 * What the layers hold, by `schema`, with its defaults.
 * @param clashes of values that are each right by themselves
 * @throws UserError with a line for each mistake: where, the key, what was expected, what was found
 */
export function checked<S extends z.ZodObject>(
  schema: S,
  layers: Layers,
  clashes: (value: z.output<S>) => readonly Clash[] = () => [],
): z.output<S> {
  const result = schema.safeParse(layers.tree, { reportInput: true });
  const mistakes = result.success
    ? clashes(result.data).map(({ path, because, text }) => ({
        path,
        at: layers.written(path) ? path : because,
        text,
      }))
    : result.error.issues
        .flatMap((issue) => explain(schema, issue))
        .map(({ path, text }) => ({ path, at: path, text }));
  if (mistakes.length > 0 || !result.success)
    throw new UserError(
      mistakes.map(({ path, at, text }) => `${layers.origin(at)}: ${path.join('.')}: ${text}`).join('\n'),
    );
  return result.data;
}

function explain(schema: z.core.$ZodType, issue: z.core.$ZodIssue): { path: Path; text: string }[] {
  const path = issue.path.map((key) => (typeof key === 'number' ? key : String(key)));
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({
      path: [...path, key],
      text: `unknown key${suggestion(schema, key, path)}`,
    }));
  return [{ path, text: `${expectation(issue)}, got ${describeValue(issue.input)}` }];
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${typeNames[issue.expected] ?? issue.expected}`;
    case 'invalid_value': {
      const values = issue.values.map(String);
      const near = nearest(String(issue.input), values);
      const list = values.map((value) => JSON.stringify(value)).join(', ');
      return `expected one of ${list}${near === undefined ? '' : ` (did you mean "${near}"?)`}`;
    }
    case 'too_small':
    case 'too_big': {
      const [limit, low] = issue.code === 'too_small' ? [issue.minimum, true] : [issue.maximum, false];
      if (issue.origin === 'array')
        return `expected ${issue.exact ? '' : low ? 'at least ' : 'at most '}${limit} items`;
      if (issue.origin === 'string') return 'expected some text';
      const bound = low
        ? issue.inclusive
          ? 'at least'
          : 'more than'
        : issue.inclusive
          ? 'at most'
          : 'less than';
      return `expected ${bound} ${limit}`;
    }
    default:
      return issue.message;
  }
}

const typeNames: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'a mapping (key: value)',
};

/** The nearest key of the same section, else one of the same name elsewhere, else all keys of the section. */
function suggestion(schema: z.core.$ZodType, key: string, section: Path): string {
  const known = keysAt(schema, section);
  const near = nearest(key, known);
  if (near !== undefined) return `, did you mean "${near}"?`;
  const elsewhere = allPaths(schema).find((path) => path.at(-1) === key);
  if (elsewhere) return `, did you mean "${elsewhere.join('.')}"?`;
  return `, expected one of ${known.join(', ')}`;
}

/** A schema without its default, null and optional wrappings. */
function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  return schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodOptional
    ? unwrap(schema.unwrap())
    : schema;
}

function keysAt(schema: z.core.$ZodType, path: Path): string[] {
  const bare = unwrap(schema);
  const [key, ...rest] = path;
  if (bare instanceof z.ZodArray) return keysAt(bare.element, rest);
  if (!(bare instanceof z.ZodObject)) return [];
  const shape: Readonly<Record<string, z.core.$ZodType>> = bare.shape;
  if (key === undefined) return Object.keys(shape);
  const next = shape[key];
  return next ? keysAt(next, rest) : [];
}

function allPaths(schema: z.core.$ZodType, at: readonly string[] = []): string[][] {
  const bare = unwrap(schema);
  if (!(bare instanceof z.ZodObject)) return [[...at]];
  const shape: Readonly<Record<string, z.core.$ZodType>> = bare.shape;
  return Object.entries(shape).flatMap(([key, value]) => allPaths(value, [...at, key]));
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze);
  return value;
}
