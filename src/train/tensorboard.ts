// TensorBoard's event files, scalars only. A file is a row of records
//   length (8 bytes little-endian), masked CRC32C of the length, data, masked CRC32C of the data
// whose data is the protobuf message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5 }
// with Summary { repeated Value { string tag = 1; float simple_value = 2 } value = 1 }.
import { crc32c } from '@node-rs/crc32';
import protobuf from 'protobufjs/minimal.js';

/** The first record of every file. `time` in seconds since 1970. */
export function fileVersionRecord(time: number): Uint8Array {
  return record(protobuf.Writer.create().uint32(9).double(time).uint32(26).string('brain.Event:2').finish());
}

/** One step's values, by tag. `time` in seconds since 1970. */
export function scalarsRecord(
  time: number,
  step: number,
  values: Readonly<Record<string, number>>,
): Uint8Array {
  // Each number before a value is (field number << 3) | wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
  const event = protobuf.Writer.create().uint32(9).double(time).uint32(16).int64(step).uint32(42).fork();
  for (const [tag, value] of Object.entries(values))
    event.uint32(10).fork().uint32(10).string(tag).uint32(21).float(value).ldelim();
  return record(event.ldelim().finish());
}

/** A CRC as the format stores it: turned by 15 bits and shifted by a constant, so that a CRC over CRCs stays a good one. */
const masked = (data: Uint8Array) => {
  const crc = crc32c(Buffer.from(data));
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
};

function record(data: Uint8Array): Uint8Array {
  const result = Buffer.alloc(16 + data.length);
  result.writeBigUInt64LE(BigInt(data.length));
  result.writeUInt32LE(masked(result.subarray(0, 8)), 8);
  result.set(data, 12);
  result.writeUInt32LE(masked(data), 12 + data.length);
  return result;
}
