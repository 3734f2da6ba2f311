/** The network that a configuration names. */
import type { Config } from '../config/index.js';
import type { Backbone } from './backbone.js';
import { iresnet, iresnetBlocks } from './iresnet.js';
import type { Initialiser } from './initialise.js';
import { mobilefacenet } from './mobilefacenet.js';

export function buildBackbone(init: Initialiser, model: Config['model']): Backbone {
  const { name, input_size: inputSize, embedding_size: embeddingSize, dropout, channels, blocks } = model;
  const common = { inputSize, embeddingSize, dropout };
  if (name === 'mobilefacenet') return mobilefacenet(init, common);
  if (name === 'iresnet-small') return iresnet(init, { ...common, channels, blocks });
  return iresnet(init, { ...common, channels: [64, 128, 256, 512], blocks: iresnetBlocks[name] });
}
