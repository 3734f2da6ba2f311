// The data layer: face sets from generators and folders, batches made ahead, verification pairs.
export * from './augment.js';
export * from './contact-sheet.js';
export * from './face-set.js';
export * from './folder.js';
export * from './generate.js';
export * from './loader.js';
export * from './pairs.js';
export * from './variations.js';
export { FaceRenderer, alignedPoints } from './synthetic/render.js';
export { usualVariety, type Variety } from './synthetic/scene.js';
