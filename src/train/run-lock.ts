// One process at a time in a run directory. Each process that enters writes a file `.lock-<host>-<pid>-<start>` of its own and then
// looks for those of others: since everybody writes before looking, two can never both get in. The file of a process that is gone
// (killed, or the machine restarted) is removed by the next one, at once, so a killed run can be resumed without waiting. A lock kept
// alive by a timer cannot do that, and a step that keeps the event loop busy for long would let it go stale.
import { closeSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../tensor/errors.js';
import { explainFileError } from './atomic.js';

/** Takes the directory for this process, until the returned function is called or the process ends. */
export function lockRunDirectory(directory: string): () => void {
  const host = hostname().replaceAll('-', '_');
  const own = `.lock-${host}-${process.pid}-${statOf(process.pid)?.start ?? ''}`;
  const file = join(directory, own);
  try {
    closeSync(openSync(file, 'wx'));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
      throw new UserError(`${directory} is already open in this process`);
    throw explainFileError(error, `write into ${directory}`);
  }
  const release = () => {
    process.off('exit', release);
    rmSync(file, { force: true });
  };
  process.on('exit', release);
  for (const name of readdirSync(directory)) {
    const [, where, pid, start] = /^\.lock-([^-]*)-(\d+)-(\d*)$/.exec(name) ?? [];
    if (name === own || where === undefined || pid === undefined) continue;
    if (where === host && !isRunning(Number(pid), start)) {
      rmSync(join(directory, name), { force: true });
      continue;
    }
    release();
    throw new UserError(
      `${directory} is in use by process ${pid}${where === host ? '' : ` on ${where}`}: wait for it, or choose another --work-dir` +
        (where === host ? '' : ` (if that process is gone, delete ${join(directory, name)})`),
    );
  }
  return release;
}

/** Whether a process of this machine runs; with `start`, as `statOf` tells it, whether it is the one that started then. */
export function isRunning(pid: number, start = ''): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
  const stat = statOf(pid);
  // A zombie has ended, and only waits for its parent to ask how.
  if (stat?.state === 'Z') return false;
  // The number may have gone to another process since: that one has started at another time.
  return start === '' || stat?.start === start;
}

/** The state of a process, and when it started, in clock ticks since the machine did; undefined where the system does not say. */
function statOf(pid: number): { state: string | undefined; start: string | undefined } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name in brackets, which may hold anything; the start is the 20th after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0], start: fields[19] };
  } catch {
    return undefined;
  }
}
