// turl export: a trained network as a file for other programs.
import { statSync } from 'node:fs';
import { Command, Option } from 'commander';
import prettyBytes from 'pretty-bytes';
import { addSet, overridesOf, type OverrideOptions } from './overrides.js';

interface Options extends OverrideOptions {
  out: string;
  input: 'normalised' | 'bytes';
}

export function exportCommand(): Command {
  const command = new Command('export')
    .description('Write a trained network as ONNX (embeddings and confidences) or safetensors.')
    .argument('<run|checkpoint>', 'a run directory, or a file in its checkpoints folder')
    .requiredOption('--out <file>', 'what to write: a name that ends in .onnx or .safetensors')
    .addOption(
      new Option('--input <kind>', 'what an ONNX model takes: normalised float32 NCHW, or bytes NHWC')
        .choices(['normalised', 'bytes'])
        .default('normalised'),
    );
  return addSet(command).action(async (path: string, { out, input, ...options }: Options) => {
    const { exportRun } = await import('../export/index.js');
    const values = await exportRun(path, out, input, overridesOf(options));
    console.log(`${out}: ${prettyBytes(statSync(out).size)}`);
    for (const [kind, list] of [
      ['input', values?.inputs ?? []],
      ['output', values?.outputs ?? []],
    ] as const)
      for (const { name, type, shape, about } of list)
        console.log(`  ${kind} ${name}: ${type} [${shape.join(', ')}], ${about}`);
  });
}
