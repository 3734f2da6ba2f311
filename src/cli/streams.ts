// What goes wrong with the streams of the process: Node would lose it, or end with a stack trace.
import { fstatSync } from 'node:fs';
import { explainFileError, writeAll } from '../train/atomic.js';

/**
 * From now on output that cannot be written is told by `failed`, which ends the process; a reader that went away, as head does, is not:
 * the work goes on without it.
 */
export function watchStreams(failed: (error: unknown) => void): void {
  const { stdout, stderr } = process;
  // On a disk that is nearly full a file takes a part of what is written, which Node passes over.
  if (fstatSync(stdout.fd).isFile())
    stdout._write = (chunk: Buffer, _encoding, done) => {
      try {
        writeAll(stdout.fd, chunk);
        done();
      } catch (error) {
        done(error as Error);
      }
    };
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') failed(explainFileError(error, 'write the output'));
  });
  stderr.on('error', () => undefined);
}
