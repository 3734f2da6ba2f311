// What nvcc makes of the CUDA kernels, for each kernel and processor: registers, shared memory and spills as ptxas reports them, the
// matrix and copy instructions in its PTX, and how many of its blocks a multiprocessor can hold at once.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const folder = path.join(path.dirname(import.meta.dirname), 'native');
const flags = [
  '-std=c++20',
  '--expt-relaxed-constexpr',
  '--expt-extended-lambda',
  '-DTURL_NO_FLOAT64',
  `-I${folder}`,
];

// Of one multiprocessor (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
const limits = {
  80: { threads: 2048, blocks: 32, registers: 65536, shared: 164 << 10 },
  '90a': { threads: 2048, blocks: 32, registers: 65536, shared: 228 << 10 },
};
export const processors = Object.keys(limits);

// NVIDIA's data sheet of the H100 SXM: 10^12 operations a second of its matrix units in bfloat16, and bytes of its memory.
const peak = { operations: 989, bytes: 3.35 };

/**
 * The tile that a block of a kernel for matrix units computes, and the shared memory that its launch adds (native/cuda/*_product.h), at
 * most where it depends on the sizes (conv_windows.h, conv_weight_windows.h). `taps`: of a 3x3 convolution whose left operand is read once
 * for all of them.
 */
function tileOf(name) {
  const [, wide, turned] = /<HopperWindows<(\d+), 2, (true|false)/.exec(name) ?? [];
  if (wide !== undefined) {
    const [columns, two] = [Number(wide), wide === '64' && turned === 'false']; // two blocks on a multiprocessor
    return { rows: columns === 64 && !two ? 512 : 256, columns, added: (two ? 113 : 227) << 10, taps: 9 };
  }
  if (name.includes('<HopperStrips')) return { rows: 9 * 64, columns: 64, added: 227 << 10, taps: 9 };
  const width = Number(/<Hopper<(\d+)>/.exec(name)?.[1] ?? 0);
  if (width > 0) return { rows: 2 * width, columns: width, added: 4 * (3 * width * 128 + 16) };
  return name.includes('<Ampere') ? { rows: 128, columns: 64, added: 0 } : undefined;
}

/**
 * Operations for each byte of its operands that a block reads: 2 rows x columns for 2 (rows + columns) bytes, at each step of the inner
 * dimension. `bound`: 10^12 operations a second on an H100 were all of them to come from its memory; what the L2 cache holds is on top.
 */
function rate({ rows, columns, taps = 1 }) {
  const perByte = (rows * columns) / (rows / taps + columns);
  return { tile: `${rows} x ${columns}`, perByte, bound: Math.min(peak.operations, perByte * peak.bytes) };
}

/** Threads of a block of a kernel that has no __launch_bounds__: what nearly all of them are launched with. */
const usualThreads = 256;

const instructions = {
  mma: /^\s*mma\.sync/gm,
  ldmatrix: /^\s*ldmatrix\.sync/gm,
  cp_async: /^\s*cp\.async\.c[ag]/gm,
  wgmma: /^\s*wgmma\.mma_async/gm,
  bulk: /^\s*cp\.async\.bulk\.[a-z]+/gm,
  wide: /^\s*(?:@\S+ )?(?:ld|st)\.global(\.\w+)*\.v(4\.[fub]32|2\.[fub]64)/gm,
};

const number = (line, words) => Number(new RegExp(`(\\d+) ${words}`).exec(line)?.[1] ?? 0);
const upTo = (multiple, n) => Math.ceil(n / multiple) * multiple;

/** Blocks that fit on a multiprocessor, the share of its threads that they occupy, and what allows no more. */
function occupancy({ sm, threads, registers, shared }) {
  const most = limits[sm];
  const warps = Math.ceil(threads / 32);
  const fits = {
    threads: Math.floor(most.threads / 32 / warps),
    blocks: most.blocks,
    // Registers are given out by 256 to a warp; a block's shared memory by 128 bytes, and 1 KiB on top.
    registers: Math.floor(Math.floor(most.registers / upTo(256, registers * 32)) / warps),
    shared: Math.floor(most.shared / (upTo(128, shared) + 1024)),
  };
  const [limit, blocks] = Object.entries(fits).reduce((a, b) => (b[1] < a[1] ? b : a));
  return { blocks, occupancy: (blocks * warps * 32) / most.threads, limit };
}

/**
 * Whether a kernel whose warpgroups give and take registers (setmaxnreg) has as many as they share: if not, those that take wait forever.
 * How many of the warpgroups give is not known here.
 */
function sharesRegisters({ give, take, registers, threads }) {
  if (!take) return true;
  const all = upTo(8, registers) * threads;
  return [...Array(threads / 128).keys()].some(
    (givers) => (givers * give + (threads / 128 - givers) * take) * 128 === all,
  );
}

/** By mangled name: what the PTX of the kernel holds. */
function readPtx(text) {
  const entries = text.split(/^(?:\.visible |\.weak )?\.entry /m).slice(1);
  return new Map(
    entries.map((entry) => {
      const counts = Object.entries(instructions).map(([key, pattern]) => [
        key,
        entry.match(pattern)?.length ?? 0,
      ]);
      const bounds = /^\.maxntid (\d+)(?:, (\d+), (\d+))?/m.exec(entry);
      const setting = (way) =>
        Number(new RegExp(`setmaxnreg\\.${way}\\.sync\\.aligned\\.u32 (\\d+)`).exec(entry)?.[1] ?? 0);
      const threads = bounds && Number(bounds[1]) * Number(bounds[2] ?? 1) * Number(bounds[3] ?? 1);
      return [
        /^[\w$]+/.exec(entry)[0],
        { ...Object.fromEntries(counts), threads, give: setting('dec'), take: setting('inc') },
      ];
    }),
  );
}

function compile(file, sm, scratch) {
  const target = `-gencode=arch=compute_${sm},code=sm_${sm}`;
  const source = path.join(folder, 'cuda', file);
  const keep = ['--keep', '--keep-dir', scratch, '-cubin', '-o', path.join(scratch, 'cubin')];
  const { status, stdout, stderr } = spawnSync('nvcc', [...flags, target, '-Xptxas=-v', ...keep, source], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${file} does not compile for sm_${sm}:\n${stdout}${stderr}`);
  const ptx = readPtx(readFileSync(path.join(scratch, file.replace(/\.cu$/, '.ptx')), 'utf8'));
  const kernels = [];
  const serialised = new Set();
  for (const line of (stdout + stderr).split('\n')) {
    const slow = /wgmma.mma_async instructions are serialized .* function '([^']+)'/.exec(line)?.[1];
    if (slow) serialised.add(slow);
    const name = /Compiling entry function '([^']+)'/.exec(line)?.[1];
    if (name) kernels.push({ name, file, sm, registers: 0, shared: 0, spills: 0, ...ptx.get(name) });
    const kernel = kernels.at(-1);
    if (!kernel) continue;
    if (line.includes('spill'))
      kernel.spills += number(line, 'bytes spill stores') + number(line, 'bytes spill loads');
    if (line.includes('Used')) {
      kernel.registers = number(line, 'registers');
      kernel.shared = number(line, 'bytes smem');
    }
  }
  return kernels.map((kernel) => ({ ...kernel, serialised: serialised.has(kernel.name) }));
}

// turl::(anonymous namespace)::fill_kernel<float>(float*, float, long) -> fill_kernel<float>
function readable(names) {
  const { stdout } = spawnSync('c++filt', { input: names.join('\n'), encoding: 'utf8' });
  return stdout.split('\n').map((name) =>
    name
      .replace(/\(anonymous namespace\)::/g, '')
      .replace(/turl::|void /g, '')
      .replace(/\(.*$/, ''),
  );
}

export const hasCompiler = () => spawnSync('nvcc', ['--version']).status === 0;

/**
 * One row for each kernel and processor, for the files whose name contains `pattern`. `bounded` tells whether the kernel itself
 * states its `threads`; shared memory is what the kernel declares, and for matrix units what a launch adds. `serialised` tells that
 * ptxas lets each product of a warpgroup wait for the one before, `stuck` that its warpgroups would wait for registers. Kernels for
 * Hopper's units are empty for other processors: left out.
 */
export function compileKernels(pattern) {
  const scratch = mkdtempSync(path.join(tmpdir(), 'turl-cuda-'));
  try {
    const kernels = readdirSync(path.join(folder, 'cuda'))
      .filter((file) => file.endsWith('.cu') && file.includes(pattern))
      .sort()
      .flatMap((file) => processors.flatMap((sm) => compile(file, sm, scratch)));
    const names = readable(kernels.map((kernel) => kernel.name));
    return kernels.flatMap((kernel, i) => {
      const name = names[i];
      if (name.includes('<Hopper') && kernel.sm !== '90a') return [];
      const tile = tileOf(name);
      const row = { ...kernel, name, bounded: kernel.threads !== null };
      row.threads ??= usualThreads;
      row.shared += tile?.added ?? 0;
      row.stuck = !sharesRegisters(row);
      return [{ ...row, ...occupancy(row), ...(tile && rate(tile)) }];
    });
  } finally {
    rmSync(scratch, { recursive: true });
  }
}
