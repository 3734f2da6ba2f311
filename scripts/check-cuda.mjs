// Compiles the CUDA kernels and prints for each: registers, static shared memory and spilled bytes. Fails when a kernel spills, which
// means that it keeps registers in slow memory. Skipped without nvcc.
// usage: node scripts/check-cuda.mjs [FILE PATTERN]
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';

const folder = path.join(path.dirname(import.meta.dirname), 'native');
const pattern = process.argv[2] ?? '';
const flags = [
  '-std=c++20',
  '--expt-relaxed-constexpr',
  '--expt-extended-lambda',
  '-DTURL_NO_FLOAT64',
  `-I${folder}`,
];

function compile(file, arch) {
  const target = `-gencode=arch=compute_${arch},code=sm_${arch}`;
  const args = [...flags, target, '-Xptxas=-v', '-cubin', '-o', '/dev/null', path.join(folder, 'cuda', file)];
  const { status, stdout, stderr } = spawnSync('nvcc', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${file} does not compile for sm_${arch}:\n${stdout}${stderr}`);
  const kernels = [];
  const number = (line, words) => Number(new RegExp(`(\\d+) ${words}`).exec(line)?.[1] ?? 0);
  for (const line of (stdout + stderr).split('\n')) {
    const name = /Compiling entry function '([^']+)'/.exec(line)?.[1];
    if (name) kernels.push({ file, arch, name, registers: 0, shared: 0, spills: 0 });
    const kernel = kernels.at(-1);
    if (!kernel) continue;
    if (line.includes('spill'))
      kernel.spills += number(line, 'bytes spill stores') + number(line, 'bytes spill loads');
    if (line.includes('Used')) {
      kernel.registers = number(line, 'registers');
      kernel.shared = number(line, 'bytes smem');
    }
  }
  return kernels;
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

if (spawnSync('nvcc', ['--version']).status !== 0) {
  console.log('skipped: nvcc was not found');
} else {
  const files = readdirSync(path.join(folder, 'cuda')).filter(
    (file) => file.endsWith('.cu') && file.includes(pattern),
  );
  const kernels = files.flatMap((file) => ['80', '90a'].flatMap((arch) => compile(file, arch)));
  const names = readable(kernels.map((kernel) => kernel.name));
  const row = (...cells) =>
    console.log(
      cells.map((cell, i) => (i === 0 ? String(cell).padEnd(56) : String(cell).padStart(9))).join(''),
    );
  row('kernel', 'sm', 'registers', 'shared', 'spilled');
  kernels.forEach((kernel, i) => row(names[i], kernel.arch, kernel.registers, kernel.shared, kernel.spills));
  const spilling = kernels.filter((kernel) => kernel.spills > 0);
  console.log(`${kernels.length} kernels, ${spilling.length} spill`);
  process.exitCode = spilling.length > 0 ? 1 : 0;
}
