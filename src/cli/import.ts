// turl import: weights of other programs as a run.
import { Command, Option } from 'commander';
import { UserError } from '../tensor/errors.js';
import type { ImportOptions } from '../import/index.js';

const number = (option: string) => (text: string) => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value))
    throw new UserError(`${option}: expected a number, got ${text}`);
  return value;
};

export function importCommand(): Command {
  return new Command('import')
    .description('Make a run of the weights of another program: InsightFace’s IResNet or a MobileFaceNet.')
    .argument('<weights>', 'a file .onnx, .safetensors, .pt, .pth or .ckpt')
    .addOption(
      new Option('--model <name>', 'the network that they are of')
        .choices(['iresnet18', 'iresnet34', 'iresnet50', 'iresnet100', 'mobilefacenet'])
        .makeOptionMandatory(),
    )
    .requiredOption('--out <dir>', 'the run directory to make')
    .addOption(
      new Option('--colour <order>', 'of the images it was trained on')
        .choices(['RGB', 'BGR'])
        .default('RGB'),
    )
    .option('--mean <value>', 'subtracted from each pixel', number('--mean'), 127.5)
    .option('--scale <value>', 'by which each pixel is then divided', number('--scale'), 127.5)
    .action(async (file: string, options: ImportOptions) => {
      const { importWeights } = await import('../import/index.js');
      const size = importWeights(file, options);
      console.log(`${options.out}: ${options.model} with embeddings of ${size}, from ${file}`);
    });
}
