// turl embed: embeddings and confidences of images, in a file.
import { Command } from 'commander';
import { UserError } from '../tensor/errors.js';
import { bar } from './bar.js';
import { warnLeftOut } from './left-out.js';
import { addSet, overridesOf, workerCount, type OverrideOptions } from './overrides.js';

interface Options extends OverrideOptions {
  out: string;
  protocol?: string;
  images?: string;
}

export function embedCommand(): Command {
  const command = new Command('embed')
    .description('Write the embeddings and confidences of a set of images.')
    .argument('<run|checkpoint>', 'a run directory, or a file in its checkpoints folder')
    .argument(
      '<images>',
      'a folder, .rec, .bin, .parquet or list of images; with --protocol the folder of its set',
    )
    .requiredOption('--out <file>', 'what to write: a name that ends in .safetensors, .npy or .csv')
    .option('--protocol <name>', 'embed the images that this protocol names, for turl eval --embeddings')
    .option('--images <dir>', 'the protocol’s images, when not in its own folder')
    .option('--flip', 'take the mean with the mirrored image')
    .option('--device <name>', 'cpu, cuda or emulated')
    .option('--workers <n>', 'threads that decode images', workerCount);
  return addSet(command).action(async (path: string, source: string, all: Options) => {
    const { out, protocol, images, ...options } = all;
    const { checkEmbeddingsPath, writeEmbeddings } = await import('../evaluate/embeddings-file.js');
    const { embedImages } = await import('../evaluate/embed.js');
    const { embedProtocol } = await import('../evaluate/protocols/run.js');
    if (images !== undefined && protocol === undefined)
      throw new UserError('--images: expected --protocol NAME with it, got none');
    checkEmbeddingsPath(out);
    const overrides = overridesOf(options);
    const progress = bar('embedding');
    const embedding =
      protocol === undefined
        ? embedImages(path, source, overrides, progress.show)
        : embedProtocol(path, { protocol, dir: source, images }, overrides, progress.show);
    const embedded = await embedding.finally(progress.stop);
    const files = await writeEmbeddings(out, embedded);
    const { size, groups, confidence } = embedded.features;
    console.log(
      `${files.join(', ')}: ${embedded.names.length} embeddings of ${size}${confidence ? `, ${groups} ${groups === 1 ? 'confidence' : 'confidences'} each` : ''}`,
    );
    warnLeftOut(embedded.broken);
  });
}
