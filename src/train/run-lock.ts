// One process at a time in a run directory, or at a file or folder that is written. Each process that enters writes a file
// `.lock-<host>-<pid>-<start>` of its own and then looks for those of others: since everybody writes before looking, two can never both
// get in. The file of a process that is gone (killed, or the machine restarted) is removed by the next one, at once, so a killed run can
// be resumed without waiting. A lock kept alive by a timer cannot do that, and a step that keeps the event loop busy for long would let
// it go stale.
import { closeSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { UserError } from '../tensor/errors.js';
import { explainFileError, explaining } from './atomic.js';

/** What is locked, where the files of the processes lie, and what their names begin with. */
interface Lock {
  readonly what: string;
  readonly folder: string;
  readonly prefix: string;
  /** What else the user can do than wait. */
  readonly advice: string;
}

/** Takes the directory for this process, until the returned function is called or the process ends. */
export const lockRunDirectory = (directory: string, advice = 'choose another --work-dir'): (() => void) =>
  take({ what: directory, folder: directory, prefix: '.lock-', advice });

const lockOf = (path: string): Lock => ({
  what: path,
  folder: dirname(path),
  prefix: `.${basename(path)}.lock-`,
  advice: 'choose another name',
});

/** Takes a path to be written for this process, by files beside it, until the returned function is called or the process ends. */
export const lockPath = (path: string): (() => void) => take(lockOf(path));

/** @throws UserError when another process has taken the path */
export const checkUnlocked = (path: string): void => refuseOthers(lockOf(path));

const here = hostname().replaceAll('-', '_');
const ownName = ({ prefix }: Lock) => `${prefix}${here}-${process.pid}-${statOf(process.pid)?.start ?? ''}`;

function take(lock: Lock): () => void {
  const file = join(lock.folder, ownName(lock));
  try {
    closeSync(openSync(file, 'wx'));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
      throw new UserError(`${lock.what} is already open in this process`);
    throw explainFileError(error, `write into ${lock.folder}`);
  }
  const release = () => {
    process.off('exit', release);
    rmSync(file, { force: true });
  };
  process.on('exit', release);
  try {
    refuseOthers(lock);
  } catch (error) {
    release();
    throw error;
  }
  return release;
}

/** Refuses what another process has taken; the files of those that are gone are removed. */
function refuseOthers(lock: Lock): void {
  const { what, folder, prefix, advice } = lock;
  const own = ownName(lock);
  for (const name of explaining(`read ${folder}`, () => readdirSync(folder))) {
    if (name === own || !name.startsWith(prefix)) continue;
    const [, where, pid, start] = /^([^-]*)-(\d+)-(\d*)$/.exec(name.slice(prefix.length)) ?? [];
    if (where === undefined || pid === undefined) continue;
    if (where === here && !isRunning(Number(pid), start)) {
      rmSync(join(folder, name), { force: true });
      continue;
    }
    throw new UserError(
      `${what} is in use by process ${pid}${where === here ? '' : ` on ${where}`}: wait for it, or ${advice}` +
        (where === here ? '' : ` (if that process is gone, delete ${join(folder, name)})`),
    );
  }
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
