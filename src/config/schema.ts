// Every key of an experiment: its type, its default and where the paper speaks of it (sections and equations of arXiv 2002.11841).
// The defaults are the paper's full method; an experiment file states only what differs from them. Anything not listed here is an error.
// Descriptions become the JSON schema for editors (experiments/schema.json). A section that is left out takes all its defaults.
import * as z from 'zod';
import { scoreNames } from '../evaluate/scores.js';
import { fusionNames } from '../evaluate/templates.js';

const count = () => z.int().min(1);
const atLeastZero = () => z.int().min(0);
const probability = () => z.number().min(0).max(1);
const oddSize = () =>
  z
    .int()
    .min(3)
    .max(11)
    .refine((size) => size % 2 === 1, 'expected an odd kernel size between 3 and 11');

/** Degrees of yaw, to either side. */
const yaw = () => z.number().min(0).max(90);

const model = z
  .strictObject({
    name: z
      .enum(['iresnet-small', 'iresnet18', 'iresnet34', 'iresnet50', 'iresnet100', 'mobilefacenet'])
      .default('iresnet100')
      .describe('Network (§4: a 100-layer improved ResNet).'),
    input_size: z
      .int()
      .min(16)
      .max(512)
      .default(100)
      .describe('Side of the square input in pixels (§4: 100).'),
    embedding_size: count().default(512).describe('D, length of the embedding (§4: 512).'),
    channels: z
      .array(count())
      .length(4)
      .default([32, 64, 128, 256])
      .describe('Channels of the four stages; only iresnet-small reads this.'),
    blocks: z
      .array(count())
      .length(4)
      .default([2, 2, 2, 2])
      .describe('Residual blocks of the four stages; only iresnet-small reads this.'),
    dropout: z.number().min(0).lt(1).default(0).describe('Dropout probability before the embedding layer.'),
  })
  .describe('The embedding network.');

const data = z
  .strictObject({
    source: z
      .enum(['synthetic', 'photographs'])
      .default('photographs')
      .describe('Generated faces, or photographs in a folder or file.'),
    path: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe(
        'Photographs: a folder of <identity>/<image>, a .rec, a .parquet or a list file, relative to the current directory; --data sets it.',
      ),
    identities: z
      .int()
      .min(2)
      .nullable()
      .default(null)
      .describe('Identities to generate; of photographs at most so many are used, and null means all.'),
    images_per_identity: count().default(20).describe('Images to generate for each identity.'),
    held_out_identities: atLeastZero()
      .default(0)
      .describe('Identities kept from training, for verification.'),
    min_images_per_identity: count()
      .default(2)
      .describe('Identities of photographs with fewer images are left out.'),
    max_images_per_identity: count()
      .nullable()
      .default(null)
      .describe(
        'Identities of photographs with more images are left out: those that another run was trained on.',
      ),
    image_size: z
      .int()
      .min(16)
      .max(512)
      .default(110)
      .describe('Images are brought to this side in pixels before the crop to model.input_size (§4: 110).'),
    flip: z.boolean().default(true).describe('Mirror a training image with probability one half.'),
    pixel_mean: z.number().default(127.5).describe('Subtracted from each pixel value (0-255).'),
    pixel_scale: z.number().positive().default(127.5).describe('Each pixel value is then divided by this.'),
    workers: atLeastZero()
      .max(1024)
      .default(2)
      .describe('Images decoded or generated at the same time; 0 means in the main thread.'),
    prefetch: count().default(4).describe('Batches made ahead of the step.'),
    sampling: z
      .strictObject({
        identities: count().describe('P, identities in a batch.'),
        images: count().describe('Q, images of each.'),
      })
      .nullable()
      .default(null)
      .describe(
        'Batches of P identities with Q images each, P Q = train.batch_size; null shuffles all images.',
      ),
  })
  .describe('The training images.');

const augment = z
  .strictObject({
    blur: z
      .strictObject({
        probability: probability()
          .default(0.3)
          .describe('Share of training images that are blurred (§4: 0.3).'),
        sizes: z
          .array(oddSize())
          .min(1)
          .default([3, 5, 7, 9, 11])
          .describe('Gaussian kernel sizes in pixels to draw from (§4: odd, 3 to 11).'),
        method: z
          .enum(['gaussian', 'resample', 'either'])
          .default('gaussian')
          .describe('Gaussian blur (§4), or made smaller and as large again, or one of the two at random.'),
        factors: z
          .array(z.int().min(2).max(8))
          .min(1)
          .default([2, 3, 4, 5, 6])
          .describe('Factors to make an image smaller by, to draw from; only resample and either read this.'),
      })
      .prefault({})
      .describe('Low resolution.'),
    occlusion: z
      .strictObject({
        probability: probability()
          .default(0.3)
          .describe('Share of training images that are occluded (§4: 0.3).'),
        blocks: z
          .int()
          .min(2)
          .max(16)
          .default(7)
          .describe('The image is split into blocks x blocks (§4: 7).'),
        share: z
          .tuple([probability(), probability()])
          .default([0.1, 0.5])
          .describe('The share of blocks made black is drawn between these two.'),
      })
      .prefault({})
      .describe('Occlusion by black blocks.'),
    pose: z
      .strictObject({
        probability: probability()
          .default(0.3)
          .describe('Share of training images that are turned (§4: 0.3).'),
        yaw: z
          .tuple([yaw(), yaw()])
          .default([40, 60])
          .describe('Degrees to draw the yaw from, to either side (§4: 40 to 60).'),
      })
      .prefault({})
      .describe('Head pose.'),
  })
  .describe('The augmentable variations (§3, §4), applied independently, so that they combine.');

const mined = z
  .strictObject({
    variations: z
      .array(z.string().min(1))
      .min(1)
      .default(['Smiling', 'Young', 'Male'])
      .describe('Attributes, by their names in list_attr_celeba.txt (§4: smiling, young and gender).'),
    labels: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe(
        'Soft labels of the training images, as turl mine label writes them; null: no variations are mined.',
      ),
  })
  .describe(
    'Variations that cannot be made but mined (§3.4): they take part in Eq. 11 to 14 like the others.',
  );

const loss = z
  .strictObject({
    type: z
      .enum(['confidence-softmax', 'cosface', 'softmax'])
      .default('confidence-softmax')
      .describe('Identification loss (Eq. 6 and 8), or a baseline with one constant scale.'),
    groups: count()
      .default(16)
      .describe('K, number of sub-embeddings (§4: 16); 1 keeps the embedding whole.'),
    margin: z.number().min(0).default(30).describe('m of Eq. 6 and 8, in units of the logits (§4: 30).'),
    margin_warmup_steps: atLeastZero().default(0).describe('Steps over which the margin grows from 0.'),
    scale: z
      .number()
      .positive()
      .default(64)
      .describe('Constant scale of the cosines; only cosface and softmax read this.'),
    cosine_margin: z
      .number()
      .min(0)
      .max(2)
      .default(0.35)
      .describe('Margin of the cosine; only cosface reads this.'),
    confidence: z
      .strictObject({
        activation: z
          .enum(['softplus', 'exp'])
          .default('softplus')
          .describe('What makes the branch output s = 1/σ² positive.'),
        initial: z
          .number()
          .positive()
          .default(64)
          .describe('s of an untrained branch, in units of the logits.'),
        gradient_scale: z
          .number()
          .gt(0)
          .max(1)
          .default(1)
          .describe(
            'Share of its gradient that the branch learns from in stage identification. With few groups it learns too fast and s falls to 0.',
          ),
      })
      .prefault({})
      .describe('The confidences s_i of Eq. 5 and 7.'),
    lambda_reg: z
      .number()
      .min(0)
      .default(0.001)
      .describe('Weight of the confidence regulariser (Eq. 10, 14).'),
    lambda_cls: z
      .number()
      .min(0)
      .default(2)
      .describe('Weight of the variation classification loss (Eq. 12, 14).'),
    lambda_adv: z
      .number()
      .min(0)
      .default(2)
      .describe(
        'Weight of the variation adversarial loss (Eq. 13, 14); in stage attributes of the identity one (Eq. 15, where it is 1).',
      ),
    masks: z
      .strictObject({
        share: z
          .number()
          .gt(0)
          .lt(1)
          .default(0.5)
          .describe('Share of the K groups that each V_t keeps (§3.3: one half).'),
      })
      .prefault({})
      .describe('The fixed masks V_t over the sub-embeddings.'),
  })
  .describe('The loss (Eq. 14).');

const optimizer = z.strictObject({
  name: z.enum(['sgd', 'adamw']).default('sgd').describe('Update rule.'),
  lr: z.number().positive().default(0.1).describe('Learning rate at the end of the warm-up.'),
  momentum: z.number().min(0).lt(1).default(0.9).describe('Momentum; only sgd reads this.'),
  betas: z
    .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
    .default([0.9, 0.999])
    .describe('Decay of the two moments; only adamw reads this.'),
  epsilon: z
    .number()
    .positive()
    .default(1e-8)
    .describe('Added to the root of the second moment; only adamw reads this.'),
  weight_decay: z
    .number()
    .min(0)
    .default(5e-4)
    .describe('Weight decay; batch normalisation, biases and PReLU slopes have none.'),
});

const schedule = z
  .strictObject({
    name: z.enum(['step', 'polynomial', 'cosine']).default('step').describe('How the learning rates fall.'),
    warmup_steps: atLeastZero().default(0).describe('Steps of linear growth from 0.'),
    milestones: z
      .array(z.number().gt(0).lt(1))
      .default([0.5, 0.75, 0.9])
      .describe('step: fractions of the training at which the rate is multiplied by gamma, ascending.'),
    gamma: z.number().gt(0).max(1).default(0.1).describe('step: factor at each milestone.'),
    power: z
      .number()
      .positive()
      .default(2)
      .describe('polynomial: power of the remaining share of the training.'),
    final: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('polynomial, cosine: share of the rate that is left at the end.'),
  })
  .describe('Learning rates over the training; every optimiser follows it.');

const train = z
  .strictObject({
    batch_size: z.int().min(2).default(256).describe('Images in a batch.'),
    steps: count().nullable().default(null).describe('Length in steps; null takes epochs.'),
    epochs: count()
      .default(27)
      .describe('Length in passes over the data when steps is null (§4: 27; 18 unaugmented).'),
    accumulate: count().default(1).describe('Batches whose gradients are averaged before one update.'),
    clip_norm: z
      .number()
      .positive()
      .nullable()
      .default(null)
      .describe(
        'Largest norm of the gradients of `optimizer` all together; those of `discriminator.optimizer` are as they are. null: none.',
      ),
    checkpoint_every: count().default(1000).describe('Steps between checkpoints.'),
    log_every: count().default(20).describe('Steps between logged metrics.'),
    evaluate_every: count()
      .nullable()
      .default(null)
      .describe('Steps between evaluations; null: only at the end.'),
    keep: count().default(3).describe('Checkpoints kept; the oldest goes first.'),
  })
  .describe('The training loop.');

const degrade = z.strictObject({
  blur: oddSize().optional().describe('Gaussian kernel size in pixels.'),
  occlusion: z.number().gt(0).max(1).optional().describe('Share of the blocks made black.'),
  yaw: yaw().optional().describe('Degrees the head is turned to; photographs need turl data fit.'),
});

const evaluate = z
  .strictObject({
    pairs: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe(
        'An LFW-style pairs file (.txt), a .bin verification set, or a split of CFP (Protocol/Split/FP); null draws pairs from the held-out identities.',
      ),
    images: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe('The images that the pairs file names: a folder of <identity>/<image>.'),
    pair_count: z.int().min(20).default(6000).describe('Pairs to draw, half genuine and half impostor.'),
    folds: z.int().min(2).default(10).describe('Folds of the accuracy.'),
    far: z
      .array(z.number().gt(0).lt(1))
      .min(1)
      .default([1e-3, 1e-2])
      .describe('False accept rates to report.'),
    score: z
      .enum(scoreNames)
      .default('cosine')
      .describe(
        'Of a pair: the cosine of the embeddings, the mean cosine of the sub-embeddings (the same for single images), or the likelihood with uncertainty (Eq. 16).',
      ),
    fusion: z
      .enum(fusionNames)
      .default('mean')
      .describe('How the images of a template become one: their mean, or weighted with their confidences.'),
    flip: z
      .boolean()
      .default(false)
      .describe('Take the mean of each image’s embedding and its mirror image’s.'),
    bootstrap: atLeastZero()
      .max(1_000_000)
      .default(1000)
      .describe('Resamplings behind the confidence intervals of the figures; 0: no intervals.'),
    degrade: z
      .array(degrade)
      .default([{ blur: 9 }, { occlusion: 0.3 }, { yaw: 50 }])
      .describe('Degraded versions of the test images, each evaluated beside the clean ones.'),
    batch_size: count().default(64).describe('Images embedded at a time.'),
  })
  .describe('Verification after, and during, training.');

export const configSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'expected letters, digits, dots, dashes and underscores')
    .describe('Name of the run; by default that of the file.'),
  purpose: z.string().default('').describe('One line on what this experiment is for.'),
  stage: z
    .enum(['identification', 'uncertainty', 'attributes'])
    .default('identification')
    .describe(
      'What is trained: everything; the confidence branch alone on genuine pairs (§3.5), starting from `from`; or an attribute model to mine variations with (§3.4), on a set in CelebA’s format.',
    ),
  from: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe('A run or checkpoint whose network, prototypes and confidence branch training starts from.'),
  seed: z.int().min(0).max(0xffffffff).default(1).describe('Seed of every random draw.'),
  device: z.enum(['cpu', 'cuda', 'emulated']).default('cpu').describe('Where the kernels run.'),
  precision: z
    .enum(['float32', 'bfloat16'])
    .default('float32')
    .describe('Type of the activations; weights stay float32.'),
  work_dir: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe('Run directory; null makes runs/<name>-<time>.'),
  model: model.prefault({}),
  data: data.prefault({}),
  augment: augment.prefault({}),
  mined: mined.prefault({}),
  loss: loss.prefault({}),
  discriminator: z
    .strictObject({ optimizer: optimizer.prefault({}).describe('Its own optimiser.') })
    .prefault({})
    .describe(
      'The variation discriminator C (Eq. 11); in stage attributes the identity adversary D_A (Eq. 15).',
    ),
  optimizer: optimizer.prefault({}).describe('Optimiser of the network and the prototypes.'),
  schedule: schedule.prefault({}),
  train: train.prefault({}),
  evaluate: evaluate.prefault({}),
});

type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T;

/** T, the number of mined variations that take part in the losses. */
export const softLabelCount = ({ mined: { labels, variations } }: Config): number =>
  labels === null ? 0 : variations.length;

/** A fully resolved experiment: every key has a value, nothing can be changed. */
export type Config = DeepReadonly<z.output<typeof configSchema>>;
