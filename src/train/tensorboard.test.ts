import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fileVersionRecord, scalarsRecord } from './tensorboard.js';

const test = suite('TensorBoard events');

/** CRC32C bit by bit (reflected polynomial 0x82f63b78), and the format's mask. */
function maskedCrc(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  crc = (crc ^ 0xffffffff) >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** The data of a record whose length and both CRCs are right. */
function unwrap(record: Uint8Array): Buffer {
  const bytes = Buffer.from(record);
  const length = Number(bytes.readBigUInt64LE());
  const data = bytes.subarray(12, 12 + length);
  assert.is(bytes.length, 16 + length);
  assert.is(bytes.readUInt32LE(8), maskedCrc(bytes.subarray(0, 8)));
  assert.is(bytes.readUInt32LE(12 + length), maskedCrc(data));
  return data;
}

test('the first record', () => {
  const time = Buffer.alloc(8);
  time.writeDoubleLE(12.5);
  assert.equal(
    unwrap(fileVersionRecord(12.5)),
    Buffer.concat([Buffer.of(0x09), time, Buffer.of(0x1a, 13), Buffer.from('brain.Event:2')]),
  );
});

test('two scalars, byte by byte', () => {
  const time = Buffer.alloc(8);
  time.writeDoubleLE(1e9);
  const value = (tag: string, number: number) => {
    const float = Buffer.alloc(4);
    float.writeFloatLE(number);
    const body = Buffer.concat([Buffer.of(0x0a, tag.length), Buffer.from(tag), Buffer.of(0x15), float]);
    return Buffer.concat([Buffer.of(0x0a, body.length), body]);
  };
  const summary = Buffer.concat([value('loss', 1.5), value('lr', -0.25)]);
  assert.equal(
    unwrap(scalarsRecord(1e9, 300, { loss: 1.5, lr: -0.25 })),
    // 300 as a varint: 0xac 0x02.
    Buffer.concat([Buffer.of(0x09), time, Buffer.of(0x10, 0xac, 0x02, 0x2a, summary.length), summary]),
  );
});

test.run();
