export { variations, activeVariations, variationTargets, type Variation } from './variations.js';
export { drawMasks } from './masks.js';
export { ConfidenceHead, confidenceRegulariser, type ConfidenceOptions } from './confidence.js';
export { confidenceSoftmax, cosFace, scaleByConfidence, type CosFaceOptions } from './identification.js';
export { Discriminator } from './discriminator.js';
export { genuinePairs, mutualLikelihood, uncertaintyLoss } from './uncertainty.js';
export {
  UniversalLoss,
  lossParts,
  readLossParts,
  type LossBatch,
  type LossPart,
  type UniversalLossResult,
  type UniversalLossSizes,
} from './universal-loss.js';
