// Compiles the CUDA kernels and prints for each: threads of a block, registers, static shared memory, blocks on a multiprocessor, matrix
// and copy instructions. Fails when a kernel spills, which means that it keeps registers in slow memory, and when one that is named
// *_matrix_kernel lacks the matrix instructions or the asynchronous copies it was written for, waits for each product, or has other registers
// than its warpgroups share. Skipped without nvcc.
// usage: node scripts/check-cuda.mjs [FILE PATTERN] [--csv]   --csv also writes the table of all kernels to bench/cuda-kernels.csv
import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeToString } from 'fast-csv';
import { compileKernels, hasCompiler } from './cuda-kernels.mjs';

const table = path.join(path.dirname(import.meta.dirname), 'bench', 'cuda-kernels.csv');
const { values, positionals } = parseArgs({
  options: { csv: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const pattern = positionals[0] ?? '';

async function writeTable(kernels) {
  const rows = kernels.map((k) => ({
    kernel: k.name,
    file: k.file,
    sm: k.sm,
    threads: k.threads,
    threads_from: k.bounded ? 'launch bounds' : 'assumed',
    registers: k.registers,
    spill_bytes: k.spills,
    shared_bytes: k.shared,
    blocks_per_sm: k.blocks,
    occupancy: k.occupancy.toFixed(3),
    limited_by: k.limit,
    mma_sync: k.mma,
    ldmatrix: k.ldmatrix,
    cp_async: k.cp_async,
    wgmma: k.wgmma,
    cp_async_bulk: k.bulk,
    accesses_of_16_bytes: k.wide,
    tile: k.tile,
    operations_per_byte: k.perByte?.toFixed(1),
    h100_tflops_from_memory: k.sm === '90a' ? k.bound?.toFixed(0) : undefined,
  }));
  const temporary = `${table}.${process.pid}`;
  writeFileSync(temporary, await writeToString(rows, { headers: true, includeEndRowDelimiter: true }));
  renameSync(temporary, table);
  console.log(`wrote ${path.relative(process.cwd(), table)}`);
}

function print(kernels) {
  const row = (name, ...cells) =>
    console.log(name.padEnd(52) + cells.map((cell) => String(cell).padStart(10)).join(''));
  row(
    'kernel',
    'sm',
    'threads',
    'registers',
    'shared',
    'spilled',
    'blocks',
    'limit',
    'mma',
    'wgmma',
    'cp.async',
    'bulk',
  );
  for (const k of kernels)
    row(
      k.name,
      k.sm,
      `${k.threads}${k.bounded ? '' : '?'}`,
      k.registers,
      k.shared,
      k.spills,
      k.blocks,
      k.limit,
      k.mma,
      k.wgmma,
      k.cp_async,
      k.bulk,
    );
}

if (!hasCompiler()) {
  console.log('skipped: nvcc was not found');
} else if (values.csv && pattern !== '') {
  console.error('error: --csv writes the table of all kernels, so expected no file pattern, got ' + pattern);
  process.exitCode = 2;
} else {
  const kernels = compileKernels(pattern);
  print(kernels);
  const spilling = kernels.filter((k) => k.spills > 0);
  const matrix = kernels.filter((k) => /_matrix_kernel\b/.test(k.name));
  const gathers = ({ name }) => /^conv_.*<Ampere, false>/.test(name); // reads element by element
  const multiplies = (k) =>
    k.name.includes('<Hopper') ? k.wgmma > 0 && !k.serialised && !k.stuck : k.mma > 0 && k.ldmatrix > 0;
  const plain = matrix.filter((k) => !multiplies(k) || (k.cp_async + k.bulk === 0 && !gathers(k)));
  for (const k of plain)
    console.error(
      `${k.name}, sm_${k.sm}: ${k.mma} mma.sync, ${k.ldmatrix} ldmatrix, ${k.wgmma} wgmma${k.serialised ? ', serialised' : ''}, ` +
        `${k.cp_async} cp.async, ${k.bulk} cp.async.bulk` +
        (k.stuck ? `, ${k.registers} registers a thread, not what its warpgroups share` : ''),
    );
  console.log(
    `${kernels.length} kernels, ${spilling.length} spill; of ${matrix.length} for matrix units ${plain.length} lack instructions`,
  );
  if (values.csv) await writeTable(kernels);
  process.exitCode = spilling.length + plain.length > 0 ? 1 : 0;
}
