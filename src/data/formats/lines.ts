/** Text files line by line, however long they are: no string holds more than half a gigabyte. */
import { closeSync, openSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { explaining } from '../../train/atomic.js';

/**
 * The lines, without their ends.
 * @param ended leaves out a last line that has no end, which was cut short
 * @throws UserError when the file cannot be read
 */
export function* linesOf(file: string, { ended = false } = {}): Generator<string> {
  const reading = <T>(read: () => T): T => explaining(`read ${file}`, read);
  const descriptor = reading(() => openSync(file, 'r'));
  try {
    const buffer = Buffer.alloc(1 << 20);
    const decoder = new StringDecoder('utf8');
    let rest = '';
    for (;;) {
      const count = reading(() => readSync(descriptor, buffer));
      const parts = (rest + (count > 0 ? decoder.write(buffer.subarray(0, count)) : decoder.end())).split(
        '\n',
      );
      rest = parts.pop() ?? '';
      for (const part of parts) yield part.endsWith('\r') ? part.slice(0, -1) : part;
      if (count > 0) continue;
      if (rest !== '' && !ended) yield rest;
      return;
    }
  } finally {
    closeSync(descriptor);
  }
}
