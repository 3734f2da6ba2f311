/** The array job of a sweep for Slurm: one task for each cell, which runs `turl ablate --cell` for it. */
import { join } from 'node:path';

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
/** As sbatch reads the lines that are for it, where a per cent sign stands for something. */
const literal = (text: string) => text.replace(/["\\]/g, '\\$&').replaceAll('%', '%%');

export interface SlurmOptions {
  name: string;
  cells: readonly string[];
  /** What follows `turl ablate`. */
  command: readonly string[];
  /** Where it is run. */
  folder: string;
  /** Where its output goes. */
  logs: string;
}

/** What sbatch is given. Partition, time and memory come from the site's defaults or SBATCH_* variables. */
export function slurmScript({ name, cells, command, folder, logs }: SlurmOptions): string {
  const turl = join(import.meta.dirname, '../../bin/turl.js');
  return `#!/bin/bash
#SBATCH --job-name=${name.replace(/[^A-Za-z0-9._-]/g, '_')}
#SBATCH --array=0-${cells.length - 1}
#SBATCH --output="${literal(logs)}/slurm-%A_%a.log"
set -euo pipefail
cd ${quoted(folder)}
cells=(${cells.map(quoted).join(' ')})
exec ${quoted(process.execPath)} ${quoted(turl)} ablate ${command.map(quoted).join(' ')} --cell "\${cells[$SLURM_ARRAY_TASK_ID]}"
`;
}
