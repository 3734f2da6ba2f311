// turl mine: variations that cannot be made, only found: an attribute model, and what it says of a training set.
import { Command } from 'commander';
import { UserError } from '../tensor/errors.js';
import { warnLeftOut } from './left-out.js';
import { addSet, overridesOf, workerCount, type OverrideOptions } from './overrides.js';
import { addTrainOptions, runTraining, type TrainCommandOptions } from './train.js';

export function mineCommand(): Command {
  return new Command('mine')
    .description('Mine variations: train a model of attributes, and label a training set with it.')
    .addCommand(trainSubcommand())
    .addCommand(evalSubcommand())
    .addCommand(labelSubcommand());
}

function trainSubcommand(): Command {
  const command = new Command('train')
    .description('Train a model of attributes, with its identity adversary, on a set in CelebA’s format.')
    .argument('<config>', 'an experiment of stage attributes, a YAML file');
  return addTrainOptions(
    command,
    'the folder of images, identity_celeba.txt and list_attr_celeba.txt',
  ).action(async (file: string, options: TrainCommandOptions) => {
    const { loadConfig } = await import('../config/index.js');
    const { stage } = loadConfig(file, overridesOf(options));
    if (stage !== 'attributes')
      throw new UserError(
        `${file}: stage: expected attributes, which turl mine train trains, found ${stage}`,
      );
    const result = await runTraining(file, options);
    if (!result || result.interrupted) return;
    const { attributeTable, measureAttributes } = await import('../mine/index.js');
    console.log(attributeTable(await measureAttributes(result.run)));
  });
}

function evalSubcommand(): Command {
  const command = new Command('eval')
    .description('Measure a model of attributes, and how much of the identity its feature tells.')
    .argument('<run|checkpoint>', 'a run of turl mine train')
    .option('--data <dir>', 'test on this set in CelebA’s format instead of the run’s own')
    .option('--device <name>', 'cpu, cuda or emulated')
    .option('--workers <n>', 'threads that decode images', workerCount);
  return addSet(command)
    .option('--json', 'print JSON instead of a table')
    .action(async (path: string, options: OverrideOptions & { json?: true }) => {
      const { attributeTable, measureAttributes } = await import('../mine/index.js');
      const evaluation = await measureAttributes(path, overridesOf(options));
      console.log(options.json ? JSON.stringify(evaluation, null, 2) : attributeTable(evaluation));
    });
}

function labelSubcommand(): Command {
  return new Command('label')
    .description('Write soft labels of a training set, for mined.labels of an experiment.')
    .argument('<run|checkpoint>', 'a run of turl mine train')
    .requiredOption('--data <path>', 'the images, in any format')
    .requiredOption('--out <file>', 'the table to write, .csv')
    .option('--device <name>', 'cpu, cuda or emulated')
    .option('--workers <n>', 'threads that decode images', workerCount)
    .action(
      async (path: string, { data, out, ...options }: OverrideOptions & { data: string; out: string }) => {
        const { labelImages } = await import('../mine/index.js');
        const { images, broken } = await labelImages(path, { data, out, overrides: overridesOf(options) });
        console.log(`${out}: ${images} images`);
        warnLeftOut(broken);
      },
    );
}
