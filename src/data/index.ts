// The data layer: face sets from generators and photographs in the formats of the field, batches made ahead, verification pairs.
export * from './augment.js';
export * from './contact-sheet.js';
export * from './face-set.js';
export { archiveKind, openArchive, type Archive, type ArchiveKind } from './formats/archive.js';
export { imagePlace, openSource, type ImageSource } from './formats/image-source.js';
export { createArchive, type ArchiveWriter, type WrittenImage } from './formats/writers.js';
export * from './generate.js';
export * from './loader.js';
export * from './pairs.js';
export * from './photographs.js';
export * from './variations.js';
export { FaceRenderer } from './synthetic/render.js';
export { alignedPoints, fitSimilarity, templateOf } from '../align/similarity.js';
export { usualVariety, type Variety } from './synthetic/scene.js';
