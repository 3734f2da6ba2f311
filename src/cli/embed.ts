// turl embed: embeddings and confidences of images, in a file.
import { Command } from 'commander';
import { bar } from './bar.js';
import { addSet, overridesOf, type OverrideOptions } from './overrides.js';

interface Options extends OverrideOptions {
  out: string;
  flip?: true;
}

export function embedCommand(): Command {
  const command = new Command('embed')
    .description('Write the embeddings and confidences of a set of images.')
    .argument('<run|checkpoint>', 'a run directory, or a file in its checkpoints folder')
    .argument('<images>', 'a folder, .rec, .bin, .parquet or list of images')
    .requiredOption('--out <file>', 'what to write: a name that ends in .safetensors, .npy or .csv')
    .option('--flip', 'take the mean with the mirrored image')
    .option('--device <name>', 'cpu, cuda or emulated')
    .option('--workers <n>', 'threads that decode images', Number);
  return addSet(command).action(async (path: string, images: string, { out, flip, ...options }: Options) => {
    const { checkEmbeddingsPath, writeEmbeddings } = await import('../evaluate/embeddings-file.js');
    const { embedImages } = await import('../evaluate/embed.js');
    checkEmbeddingsPath(out);
    const overrides = overridesOf(options);
    if (flip) overrides.push({ source: '--flip', path: 'evaluate.flip', value: true });
    const progress = bar('embedding');
    const embedded = await embedImages(path, images, overrides, progress.show).finally(progress.stop);
    const files = await writeEmbeddings(out, embedded);
    const { size, groups, confidence } = embedded.features;
    console.log(
      `${files.join(', ')}: ${embedded.names.length} embeddings of ${size}${confidence ? `, ${groups} ${groups === 1 ? 'confidence' : 'confidences'} each` : ''}`,
    );
    for (const { file, reason } of embedded.broken.slice(0, 5)) console.warn(`left out: ${file}: ${reason}`);
    if (embedded.broken.length > 5) console.warn(`left out: ${embedded.broken.length - 5} more`);
  });
}
