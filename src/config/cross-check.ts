// What the values of an experiment demand of each other.
import type { Config } from './schema.js';

/** A value that another rules out: its place, the place of the other, and what is wrong. */
export interface Clash {
  path: string[];
  because: string[];
  text: string;
}

/** All clashes of an experiment whose values are each right by themselves. */
export function crossCheck({
  stage,
  from,
  model,
  data,
  augment,
  loss,
  schedule,
  train,
  evaluate,
}: Config): Clash[] {
  const clashes: Clash[] = [];
  const demand = (holds: boolean, path: string, because: string, text: string) => {
    if (!holds) clashes.push({ path: path.split('.'), because: because.split('.'), text });
  };
  demand(
    model.embedding_size % loss.groups === 0,
    'loss.groups',
    'model.embedding_size',
    `expected a divisor of model.embedding_size (${model.embedding_size}), got ${loss.groups}`,
  );
  demand(
    model.input_size <= data.image_size,
    'model.input_size',
    'data.image_size',
    `expected at most data.image_size (${data.image_size}), got ${model.input_size}`,
  );
  demand(
    data.source === 'photographs' || data.identities !== null,
    'data.identities',
    'data.source',
    'expected how many identities to generate, got nothing',
  );
  demand(
    data.source === 'photographs' || data.path === null,
    'data.path',
    'data.source',
    `expected data.source photographs with it (--data sets both), got ${data.path} beside generated faces`,
  );
  demand(
    evaluate.pairs === null || !evaluate.pairs.endsWith('.txt') || evaluate.images !== null,
    'evaluate.images',
    'evaluate.pairs',
    'expected the image folder that evaluate.pairs names, got nothing',
  );
  demand(
    stage === 'attributes' || evaluate.score !== 'uncertainty' || loss.type === 'confidence-softmax',
    'evaluate.score',
    'loss.type',
    `expected another score, since loss.type ${loss.type} has no confidences, got ${evaluate.score}`,
  );
  for (const key of ['far', 'degrade'] as const) {
    const texts = evaluate[key].map((one) => JSON.stringify(one));
    const again = texts.find((text, i) => texts.indexOf(text) < i);
    demand(
      again === undefined,
      `evaluate.${key}`,
      `evaluate.${key}`,
      `expected each once, got ${again} twice`,
    );
  }
  for (const [key, range] of [
    ['augment.occlusion.share', augment.occlusion.share],
    ['augment.pose.yaw', augment.pose.yaw],
  ] as const)
    demand(range[0] <= range[1], key, key, `expected the smaller value first, got [${range.join(', ')}]`);
  evaluate.degrade.forEach((version, i) => {
    const place = `evaluate.degrade.${i}`;
    demand(
      Object.keys(version).length > 0,
      place,
      place,
      'expected one or more of blur, occlusion and yaw, got {}',
    );
  });
  if (stage === 'uncertainty') {
    demand(from !== null, 'from', 'stage', 'expected the run to start from, got nothing');
    demand(
      loss.type === 'confidence-softmax',
      'loss.type',
      'stage',
      `expected confidence-softmax, which has the confidence branch that stage uncertainty trains, got ${loss.type}`,
    );
    demand(
      data.sampling !== null,
      'data.sampling',
      'stage',
      'expected batches with genuine pairs, such as { identities: 16, images: 4 }, got nothing',
    );
  }
  if (data.sampling !== null) {
    const { identities, images } = data.sampling;
    demand(
      stage !== 'uncertainty' || images > 1,
      'data.sampling.images',
      'stage',
      `expected at least 2 images of an identity in a batch, for genuine pairs, got ${images}`,
    );
    demand(
      identities * images === train.batch_size,
      'data.sampling',
      'train.batch_size',
      `expected identities times images to be train.batch_size (${train.batch_size}), got ${identities} x ${images}`,
    );
  }
  const { milestones } = schedule;
  demand(
    milestones.every((at, i) => i === 0 || at > (milestones[i - 1] ?? 0)),
    'schedule.milestones',
    'schedule.milestones',
    `expected ascending fractions, got [${milestones.join(', ')}]`,
  );
  return clashes;
}
