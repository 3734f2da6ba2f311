/**
 * Reads pickles of protocols 0 to 5, from Python 2 and 3, without executing anything: only None, booleans, integers, text, bytes,
 * lists and tuples are understood, and of numpy arrays of bytes and numpy booleans; any other opcode or global is refused by its name.
 * Work and memory are linear in the file.
 */
import { UserError } from '../../tensor/errors.js';

/** What a pickle can hold here. Lists and tuples are both arrays, and so are sets of arguments. */
export type Pickled = null | boolean | number | string | Buffer | Pickled[] | Global | NumpyType | NumpyArray;

class Global {
  constructor(readonly name: string) {}
}
class NumpyType {
  constructor(readonly name: string) {}
}
/** A numpy array whose bytes come later. */
class NumpyArray {
  data: Buffer | undefined;
}

const opcodeNames: Readonly<Record<number, string>> = {
  0x50: 'PERSID', 0x51: 'BINPERSID', 0x69: 'INST', 0x6f: 'OBJ', 0x81: 'NEWOBJ', 0x92: 'NEWOBJ_EX',
  0x82: 'EXT1', 0x83: 'EXT2', 0x84: 'EXT4', 0x7d: 'EMPTY_DICT', 0x64: 'DICT', 0x73: 'SETITEM', 0x75: 'SETITEMS',
  0x8f: 'EMPTY_SET', 0x90: 'ADDITEMS', 0x91: 'FROZENSET', 0x97: 'NEXT_BUFFER', 0x98: 'READONLY_BUFFER',
  0x46: 'FLOAT', 0x47: 'BINFLOAT',
}; // prettier-ignore

/** Python's escapes in the text of the opcodes STRING; the others stand for themselves. */
const escapes: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, a: 7, b: 8, f: 12, v: 11 };

function unescape(text: string): Buffer {
  const out = Buffer.alloc(text.length);
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code === 92) {
      const next = text[++i] ?? '';
      const hex = /^x[0-9a-fA-F]{2}/.exec(text.slice(i, i + 3));
      const octal = /^[0-7]{1,3}/.exec(text.slice(i, i + 3));
      if (hex) {
        code = parseInt(hex[0].slice(1), 16);
        i += 2;
      } else if (octal) {
        code = parseInt(octal[0], 8);
        i += octal[0].length - 1;
      } else code = escapes[next] ?? next.charCodeAt(0);
    }
    out[count++] = code;
  }
  return out.subarray(0, count);
}

const isByteType = (name: string) => /^[|<>=]?(u1|uint8|B)$/.test(name);
const isBooleanType = (name: string) => /^[|<>=]?(b1|bool|\?)$/.test(name);

/** The only calls that are made, and they are made here: what each gives for its arguments. */
const calls: Readonly<Record<string, (args: Pickled[]) => Pickled>> = {
  '_codecs.encode': ([text, encoding]) => {
    if (typeof text !== 'string' || typeof encoding !== 'string' || !/^latin[-_]?1$/i.test(encoding))
      throw new UserError('expected _codecs.encode of a text in latin1');
    return Buffer.from(text, 'latin1');
  },
  'numpy.core.multiarray._reconstruct': () => new NumpyArray(),
  'numpy.dtype': ([name]) => new NumpyType(text(name)),
  'numpy.core.multiarray.scalar': ([type, data]) => {
    if (!(
      type instanceof NumpyType &&
      isBooleanType(type.name) &&
      Buffer.isBuffer(data) &&
      data.length === 1
    ))
      throw new UserError('expected a numpy scalar to be a boolean');
    return data[0] !== 0;
  },
  'numpy.core.numeric._frombuffer': ([data, type]) => {
    if (!(Buffer.isBuffer(data) && type instanceof NumpyType && isByteType(type.name)))
      throw new UserError('expected a numpy array of uint8');
    return data;
  },
  '__builtin__.bytes': bytesCall,
  'builtins.bytes': bytesCall,
  'builtins.bytearray': bytesCall,
  '__builtin__.bytearray': bytesCall,
};
/** Globals that are arguments of the calls. */
const inert = new Set(['numpy.ndarray']);

function text(value: Pickled | undefined): string {
  if (typeof value === 'string') return value;
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  throw new UserError('expected a text');
}
function bytesCall([value]: Pickled[]): Pickled {
  if (value === undefined) return Buffer.alloc(0);
  if (Buffer.isBuffer(value)) return value;
  throw new UserError('expected bytes of bytes');
}

function globalNamed(module: string, name: string): Global {
  const whole = `${module.replace(/^numpy\._core\b/, 'numpy.core')}.${name}`;
  if (!(Object.hasOwn(calls, whole) || inert.has(whole)))
    throw new UserError(
      `expected lists, bytes and booleans only; it names ${module}.${name}, which could run code`,
    );
  return new Global(whole);
}

function build(target: Pickled | undefined, state: Pickled): void {
  if (target instanceof NumpyType) return; // byte order and the like: of bytes and booleans there is only one
  if (!(target instanceof NumpyArray)) throw new UserError('expected BUILD of a numpy array');
  const [, shape, type, , data] = Array.isArray(state) ? state : [];
  if (!(type instanceof NumpyType && isByteType(type.name) && Buffer.isBuffer(data) && Array.isArray(shape)))
    throw new UserError('expected a numpy array of uint8');
  const size = shape.reduce<number>((n, d) => n * (typeof d === 'number' ? d : NaN), 1);
  if (size !== data.length) throw new UserError(`a numpy array of ${size} elements has ${data.length} bytes`);
  target.data = data;
}

/** The value in `file`. Bytes are views of it where they lie there as they are. */
export function readPickle(file: Buffer): Pickled {
  const mark = Symbol('mark');
  const stack: (Pickled | typeof mark)[] = [];
  const memo = new Map<number, Pickled>();
  let at = 0;
  const fail = (what: string): never => {
    throw new UserError(`pickle, byte ${at}: ${what}`);
  };
  const take = (count: number): Buffer => {
    if (count > file.length - at) fail(`expected ${count} more bytes, found ${file.length - at}`);
    at += count;
    return file.subarray(at - count, at);
  };
  const line = (): string => {
    const end = file.indexOf(10, at);
    if (end < 0) fail('expected a line, found the end');
    const found = file.toString('latin1', at, end);
    at = end + 1;
    return found.endsWith('\r') ? found.slice(0, -1) : found;
  };
  const whole = (digits: string): number => {
    if (!/^-?\d{1,15}L?$/.test(digits)) fail(`expected an integer, found "${digits.slice(0, 40)}"`);
    return parseInt(digits, 10);
  };
  const long = (): number => {
    const value = take(8).readBigUInt64LE();
    return value > BigInt(Number.MAX_SAFE_INTEGER) ? fail('expected a shorter length') : Number(value);
  };
  const pop = (): Pickled => {
    const value = stack.pop();
    return value === undefined || typeof value === 'symbol' ? fail('a value is missing') : value;
  };
  const top = (): Pickled => {
    const value = stack.at(-1);
    return value === undefined || typeof value === 'symbol' ? fail('a value is missing') : value;
  };
  const popToMark = (): Pickled[] => {
    const from = stack.lastIndexOf(mark);
    if (from < 0) return fail('a mark is missing');
    const values = stack.splice(from).slice(1);
    return values as Pickled[]; // there is no mark behind the last one
  };
  const listBelow = (): Pickled[] => {
    const list = top();
    return Array.isArray(list) ? list : fail('expected a list to append to');
  };
  const recall = (key: number): Pickled =>
    memo.get(key) ?? (memo.has(key) ? null : fail(`memo ${key} is empty`));

  for (;;) {
    const opcode = at < file.length ? (file[at++] ?? 0) : fail('expected more, found the end');
    switch (String.fromCharCode(opcode)) {
      case '\x80':
        if ((take(1)[0] ?? 9) > 5) fail('expected a protocol of at most 5');
        break;
      case '\x95':
        long(); // a frame: of no consequence here
        break;
      case '.':
        if (stack.length !== 1) fail('values are left over');
        return pop();
      case '(':
        stack.push(mark);
        break;
      case '0':
        if (stack.pop() === undefined) fail('a value is missing');
        break;
      case '1':
        popToMark();
        break;
      case '2':
        stack.push(top());
        break;
      case 'N':
        stack.push(null);
        break;
      case '\x88':
        stack.push(true);
        break;
      case '\x89':
        stack.push(false);
        break;
      case 'I': {
        const digits = line();
        stack.push(digits === '01' ? true : digits === '00' ? false : whole(digits));
        break;
      }
      case 'L':
        stack.push(whole(line()));
        break;
      case 'J':
        stack.push(take(4).readInt32LE());
        break;
      case 'K':
        stack.push(take(1).readUInt8());
        break;
      case 'M':
        stack.push(take(2).readUInt16LE());
        break;
      case '\x8a': {
        const size = take(1).readUInt8();
        if (size > 6) fail('expected an integer of at most 6 bytes');
        stack.push(size === 0 ? 0 : take(size).readIntLE(0, size));
        break;
      }
      case 'S': {
        const quoted = /^'(.*)'$|^"(.*)"$/s.exec(line());
        if (!quoted) return fail('expected a quoted string');
        stack.push(unescape(quoted[1] ?? quoted[2] ?? ''));
        break;
      }
      case 'U':
      case 'C':
        stack.push(take(take(1).readUInt8()));
        break;
      case 'T':
      case 'B':
        stack.push(take(take(4).readUInt32LE()));
        break;
      case '\x8e':
      case '\x96':
        stack.push(take(long()));
        break;
      case 'V':
        stack.push(
          line().replace(/\\u([0-9a-fA-F]{4})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
        );
        break;
      case '\x8c':
        stack.push(take(take(1).readUInt8()).toString('utf8'));
        break;
      case 'X':
        stack.push(take(take(4).readUInt32LE()).toString('utf8'));
        break;
      case '\x8d':
        stack.push(take(long()).toString('utf8'));
        break;
      case ']':
      case ')':
        stack.push([]);
        break;
      case 'l':
      case 't':
        stack.push(popToMark());
        break;
      case '\x85':
        stack.push([pop()]);
        break;
      case '\x86': {
        const second = pop();
        stack.push([pop(), second]);
        break;
      }
      case '\x87': {
        const third = pop();
        const second = pop();
        stack.push([pop(), second, third]);
        break;
      }
      case 'a': {
        const value = pop();
        listBelow().push(value);
        break;
      }
      case 'e': {
        const values = popToMark();
        const list = listBelow();
        for (const value of values) list.push(value);
        break;
      }
      case 'p':
        memo.set(whole(line()), top());
        break;
      case 'q':
        memo.set(take(1).readUInt8(), top());
        break;
      case 'r':
        memo.set(take(4).readUInt32LE(), top());
        break;
      case '\x94':
        memo.set(memo.size, top());
        break;
      case 'g':
        stack.push(recall(whole(line())));
        break;
      case 'h':
        stack.push(recall(take(1).readUInt8()));
        break;
      case 'j':
        stack.push(recall(take(4).readUInt32LE()));
        break;
      case 'c': {
        const module = line();
        stack.push(globalNamed(module, line()));
        break;
      }
      case '\x93': {
        const name = pop();
        stack.push(globalNamed(text(pop()), text(name)));
        break;
      }
      case 'R': {
        const args = pop();
        const called = pop();
        const call = called instanceof Global ? calls[called.name] : undefined;
        if (!call || !Array.isArray(args)) return fail('expected a call of what may be called');
        stack.push(call(args));
        break;
      }
      case 'b': {
        const state = pop();
        build(top(), state);
        break;
      }
      default: {
        const name = opcodeNames[opcode] ?? `0x${opcode.toString(16).padStart(2, '0')}`;
        return fail(`expected lists, bytes and booleans only, found the opcode ${name}`);
      }
    }
  }
}

/** The bytes of a value: bytes, or a numpy array of them. */
export function pickledBytes(value: Pickled | undefined): Buffer | undefined {
  if (Buffer.isBuffer(value)) return value;
  return value instanceof NumpyArray ? value.data : undefined;
}
