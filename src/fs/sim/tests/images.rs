//! Which disks each family of images shows, and that they come back by their ids.

use super::*;

#[test]
fn family_3_and_4_lose_and_keep_each_op_alone() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, b"....");
    file.write_all_at(b"a", 0).unwrap();
    file.write_all_at(b"b", 1).unwrap();
    fs.create_new(TEMP).unwrap();
    let lost = ["7.tbl=.b.. 9.tmp=", "7.tbl=a... 9.tmp=", "7.tbl=ab.."];
    assert_eq!(images(&sim, Family::OneLost), set(lost));
    let kept = ["7.tbl=a...", "7.tbl=.b..", "7.tbl=.*4 9.tmp="];
    assert_eq!(images(&sim, Family::OneKept), set(kept));
}

#[test]
fn family_5_keeps_a_prefix_of_each_file_and_directory_on_its_own() {
    let (sim, fs) = machine();
    let (one, two) = (settled(&fs, TABLE, b"--"), settled(&fs, LOG, b"--"));
    for (i, byte) in [b"a", b"b"].into_iter().enumerate() {
        one.write_all_at(byte, i as u64).unwrap();
        two.write_all_at(byte, i as u64).unwrap();
    }
    let seen = images(&sim, Family::Prefixes);
    let prefixes = ["--", "a-", "ab"];
    let legal: BTreeSet<String> = prefixes
        .iter()
        .flat_map(|x| prefixes.map(|y| format!("7.tbl={x} 8.log={y}")))
        .collect();
    assert!(seen.is_subset(&legal), "{seen:?}");
    assert!(seen.len() > 3, "independent of each other: {seen:?}");
}

#[test]
fn family_6_keeps_the_data_without_the_names_and_the_reverse() {
    let (sim, fs) = machine();
    settled(&fs, TEMP, b"old").write_all_at(b"new", 0).unwrap();
    fs.rename(TEMP, FileName::Current).unwrap();
    assert_eq!(
        images(&sim, Family::DataOrNames),
        set(["9.tmp=new", "CURRENT=old"])
    );
}

#[test]
fn family_7_extends_files_with_zeros_where_data_was() {
    let (sim, fs) = machine();
    let (one, two) = (settled(&fs, TABLE, b""), settled(&fs, LOG, b"--"));
    one.write_all_at(b"ab", 0).unwrap();
    two.write_all_at(b"cd", 1).unwrap();
    let expected = [
        "7.tbl=.. 8.log=-..",
        "7.tbl=.. 8.log=-cd",
        "7.tbl=ab 8.log=--.",
    ];
    let seen = images(&sim, Family::SizeOnly);
    assert!(seen.contains(expected[1]) && seen.len() == 3, "{seen:?}");
    // The byte that was durable before and lies in the lost write's range keeps its old value.
    let expected = ["7.tbl=.. 8.log=--.", expected[1], expected[2]];
    assert_eq!(seen, set(expected));
}

#[test]
fn family_8_tears_the_last_write_at_each_sector() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, &[b'-'; 1600]);
    file.write_all_at(&[b'x'; 1100], 500).unwrap(); // sectors end at 512, 1024, 1536
    let expected = [
        "7.tbl=-*500x*12-*1088",
        "7.tbl=-*512x*1088",
        "7.tbl=-*500x*524-*576",
        "7.tbl=-*1024x*576",
        "7.tbl=-*500x*1036-*64",
        "7.tbl=-*1536x*64",
    ];
    assert_eq!(images(&sim, Family::Torn), set(expected));
}

#[test]
fn family_8_tears_small_writes_at_bytes_too() {
    let (sim, fs) = machine();
    settled(&fs, LOG, b"------")
        .write_all_at(b"12345", 0)
        .unwrap();
    let torn = ["1-----", "12----", "1234--"]
        .map(|t| format!("8.log={}", t.replace("-----", "-*5").replace("----", "-*4")));
    assert_eq!(images(&sim, Family::Torn), torn.into());
}

#[test]
fn family_12_persists_removals_early_and_undoes_them() {
    let (sim, fs) = machine();
    settled(&fs, LOG, b"a");
    settled(&fs, TABLE, b"b");
    fs.remove(LOG).unwrap();
    fs.create_new(TEMP).unwrap();
    fs.remove(TABLE).unwrap();
    assert_eq!(show(&sim), "9.tmp=");
    let expected = ["", "7.tbl=b 8.log=a 9.tmp=", "7.tbl=b", "8.log=a"];
    assert_eq!(images(&sim, Family::Removals), set(expected));
}

#[test]
fn family_13_keeps_each_sector_by_its_own_coin() {
    let (sim, fs) = machine();
    settled(&fs, TABLE, &[b'-'; 1024])
        .write_all_at(&[b'x'; 1024], 0)
        .unwrap();
    let legal = ["-*1024", "x*1024", "-*512x*512", "x*512-*512"].map(|t| format!("7.tbl={t}"));
    assert_eq!(images(&sim, Family::Random), legal.into());
}

#[test]
fn a_rename_is_one_change_and_replaces_whole_files() {
    let (sim, fs) = machine();
    settled(&fs, FileName::Current, b"old");
    settled(&fs, TEMP, b"new");
    fs.rename(TEMP, FileName::Current).unwrap();
    let legal = set(["9.tmp=new CURRENT=old", "CURRENT=new"]);
    for family in Family::ALL {
        let seen = images(&sim, family);
        assert!(seen.is_subset(&legal), "{family:?}: {seen:?}");
    }
    fs.sync_dir().unwrap();
    assert_eq!(images(&sim, Family::Nothing), set(["CURRENT=new"]));
}

#[test]
fn bytes_outside_written_ranges_never_change() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, &[b'-'; 2000]);
    file.write_all_at(&[b'x'; 700], 300).unwrap();
    file.write_all_at(&[b'y'; 10], 1200).unwrap();
    for image in sim.images(&Family::ALL) {
        let bytes = image.sim.bytes(fs.root(), "000007.tbl").unwrap();
        let outside = [&bytes[..300], &bytes[1000..1200], &bytes[1210..]].concat();
        assert!(outside.iter().all(|b| *b == b'-'), "{}", image.id);
    }
}

#[test]
fn an_image_comes_back_by_its_id_on_a_second_run() {
    let run = || {
        let (sim, fs) = machine();
        let file = settled(&fs, TABLE, &[b'-'; 2000]);
        file.write_all_at(&[b'x'; 1500], 100).unwrap();
        fs.create_new(TEMP).unwrap();
        (sim, fs.random())
    };
    let ((sim, chance), (again, same_chance)) = (run(), run());
    assert_eq!(chance, same_chance);
    assert_eq!(sim.script(), again.script());
    let mut disks = BTreeSet::new();
    for image in sim.images(&Family::ALL) {
        assert_eq!(
            show(&image.sim),
            show(&again.image(image.id).unwrap()),
            "{}",
            image.id
        );
        assert!(
            disks.insert(show(&image.sim)),
            "{} is a repetition",
            image.id
        );
    }
    assert!(disks.len() > 10, "{disks:?}");
    let other = ImageId {
        call: 0,
        family: Family::Nothing,
        n: 0,
    };
    assert!(sim.image(other).is_none(), "of another moment");
}
