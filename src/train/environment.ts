// What a result depends on besides the experiment: the code, the programs, the machine.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, hostname, platform, release, totalmem } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { device, deviceNames, whyUnavailable } from '../tensor/device.js';

const root = join(import.meta.dirname, '../..');

export interface DeviceReport {
  name: string;
  /** What it is, or why it cannot be used here. */
  description: string;
  usable: boolean;
  /** Bytes; absent when it cannot be used. */
  memory?: number;
  threads?: number;
}

/** Opens a device to say what it is. */
export function deviceReport(name: (typeof deviceNames)[number]): DeviceReport {
  const reason = whyUnavailable(name);
  if (reason !== undefined) return { name, description: reason, usable: false };
  const { description, memoryTotal, threads } = device(name).statistics();
  return { name, description, usable: true, memory: memoryTotal, threads };
}

export interface Versions {
  turl: string;
  node: string;
  system: string;
  /** The commit of the source, `+` behind it when files were changed since; null outside a repository and `npm run bundle`. */
  commit: string | null;
}

export function versions(): Versions {
  const manifest: unknown = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const { version, gitHead } = z
    .object({ version: z.string(), gitHead: z.string().nullish() })
    .parse(manifest);
  return {
    turl: version,
    node: process.version,
    system: `${platform()} ${release()} ${arch()}`,
    commit: commit() ?? gitHead ?? null,
  };
}

function commit(): string | null {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', root, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    // Installed as a dependency, the package may lie in the repository of somebody else.
    if (git('rev-parse', '--show-prefix') !== '') return null;
    return git('rev-parse', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+');
  } catch {
    return null;
  }
}

export interface Machine {
  host: string;
  cpu: string;
  cores: number;
  /** Bytes. */
  memory: number;
}

export function machine(): Machine {
  const processors = cpus();
  return {
    host: hostname(),
    cpu: processors[0]?.model.trim() ?? '',
    cores: processors.length,
    memory: totalmem(),
  };
}
