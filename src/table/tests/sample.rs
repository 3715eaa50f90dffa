//! The worked sample of DESIGN.md: a tiny table, byte for byte.

use super::*;
use crate::base::cursor::Cursor;

const SAMPLE: &str = "\
03000004020000000100000000000000afaff76c706c70697223002f003d0048
006170030001020000706c65726564030001000000706c65677265656e050000
0100007269636f74
zeros 180
6cc78b0e00000088100000000400000000000000000000004000000000000000
0002020000000000000100000002000002000000000000001000000000000100
00000000010000000601
zeros 58
010000000100000005
zeros 40
01000000000000ffffffffffffffff00000000000000006170706c65
zeros 51
0101030201010301110401080501010601030701010802800209010a0a01000b
056170706c650c0761707269636f740200000000010000000000004800000000
000000d255b173000000000100000080010000000000004d0000000000000079
a1ce08000000000300000000020000000000002f000000000000002e2978f000
0000002f0200000000000054000000cc7ebfc6110a0000000000000700000000
0000006300000000000000cb0200000000000000000000000000000100000003
b78676616c6c757674626c
";

fn rows() -> Vec<Row> {
    vec![
        (b"apple".to_vec(), 3, Some(b"red".to_vec())),
        (b"apple".to_vec(), 1, Some(b"green".to_vec())),
        (b"apricot".to_vec(), 2, None),
    ]
}

/// Hex, 32 bytes a line; a run of 32 or more zeros is written `zeros N`.
fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let zeros = bytes[at..].iter().take_while(|byte| **byte == 0).count();
        if zeros >= 32 {
            text += &format!("zeros {zeros}\n");
            at += zeros;
            continue;
        }
        let mut end = at;
        while end < bytes.len() && end < at + 32 {
            if bytes[end..].len() >= 32 && bytes[end..end + 32].iter().all(|byte| *byte == 0) {
                break;
            }
            end += 1;
        }
        for byte in &bytes[at..end] {
            text += &format!("{byte:02x}");
        }
        text.push('\n');
        at = end;
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("zeros ") {
            Some(n) => bytes.resize(bytes.len() + n.parse::<usize>().unwrap(), 0),
            None => bytes.extend(
                (0..line.len() / 2)
                    .map(|i| u8::from_str_radix(&line[2 * i..2 * i + 2], 16).unwrap()),
            ),
        }
    }
    bytes
}

#[test]
fn the_worked_sample_decodes_and_encodes_to_itself() {
    let place = Place::new();
    let small = BuilderOptions {
        filter_bits_per_key: 10,
        ..options(256, Compression::None)
    };
    let summary = place.build(small, &rows());
    assert_eq!(to_hex(&place.bytes()), SAMPLE);
    let sample = from_hex(SAMPLE);
    place.replace(&sample);
    assert_eq!(summary.bytes, sample.len() as u64);
    let table = place.open(summary.bytes, &context(ReadMode::Mmap, Verify::FirstTouch));
    table.verify().unwrap();
    let mut cursor = table.cursor();
    cursor.first().unwrap();
    for row in rows() {
        let value = row.2.as_deref().unwrap_or(b"");
        assert_eq!(
            (cursor.key(), cursor.tag(), cursor.value()),
            (&row.0[..], row_tag(&row), value)
        );
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
}
