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

#[test]
fn family_7_shows_bytes_of_removed_files_where_a_file_grew() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, b"--");
    settled(&fs, LOG, b"removed");
    fs.remove(LOG).unwrap();
    fs.sync_dir().unwrap();
    file.write_all_at(b"new bytes", 1).unwrap();
    // What lay within the old size is as it was; behind it comes what the blocks held before.
    let expected = set(["7.tbl=--.*8", "7.tbl=--movedrem"]);
    assert_eq!(images(&sim, Family::SizeOnly), expected);
    let image = sim.images(&[Family::SizeOnly]).next().unwrap();
    let file = Fs::sim(&image.sim, fs.root()).open_write(TABLE).unwrap();
    file.write_all_at(b"x", 10).unwrap();
    let expected = set(["7.tbl=--.*9", "7.tbl=--.*8o"]);
    assert_eq!(
        images(&image.sim, Family::SizeOnly),
        expected,
        "still on that disk"
    );
}

#[test]
fn family_7_gives_no_blocks_to_a_file_before_they_are_free() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, b"--");
    settled(&fs, LOG, b"removed");
    file.write_all_at(b"new bytes", 1).unwrap();
    fs.remove(LOG).unwrap();
    fs.sync_dir().unwrap();
    assert_eq!(images(&sim, Family::SizeOnly), set(["7.tbl=--.*8"]));
}

#[test]
fn family_9_keeps_the_ends_of_a_write_and_loses_its_middle() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, &[b'-'; 2048]);
    file.write_all_at(&[b'x'; 1100], 500).unwrap(); // sectors end at 512, 1024, 1536
    file.write_all_at(&[b'y'; 1024], 1024).unwrap(); // two sectors: no middle
    let expected = ["7.tbl=-*500x*12-*512y*1024"];
    assert_eq!(images(&sim, Family::Middle), set(expected));
}

#[test]
fn family_10_shows_each_earlier_version_of_a_sector() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, &[b'-'; 512]);
    file.write_all_at(&[b'a'; 600], 0).unwrap();
    file.write_all_at(&[b'b'; 512], 88).unwrap();
    let expected = [
        "7.tbl=-*512b*88",     // the first sector as it was durable
        "7.tbl=a*512b*88",     // and without the second write
        "7.tbl=a*88b*424a*88", // the second sector, which was not durable, without it
    ];
    assert_eq!(images(&sim, Family::OlderSector), set(expected));
}

#[test]
fn family_11_keeps_a_later_file_and_loses_an_earlier_one() {
    let (sim, fs) = machine();
    for (name, bytes) in [(TABLE, b"a"), (LOG, b"b"), (TEMP, b"c")] {
        fs.create_new(name).unwrap().write_all_at(bytes, 0).unwrap();
    }
    let expected = [
        "8.log=b 9.tmp=c", // each lost
        "7.tbl=a 9.tmp=c",
        "7.tbl=a 8.log=b",
        "7.tbl=a", // each alone
        "8.log=b", // which is the second kept and the first lost, too
        "9.tmp=c",
    ];
    let expected = expected.map(|e| e.split(' ').collect::<Vec<_>>());
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(images(&sim, Family::LaterFile), expected.map(sorted).into());
}

/// A file that grew, a file written over, and a name, in this order; none of them synced.
fn three_changes() -> SimFs {
    let (sim, fs) = machine();
    let old = settled(&fs, LOG, &[b'-'; 1024]);
    let file = fs.create_new(TABLE).unwrap();
    file.write_all_at(b"grown", 0).unwrap();
    old.write_all_at(&[b'x'; 1024], 0).unwrap();
    fs.create_new(TEMP).unwrap();
    sim
}

fn all_images(sim: &SimFs) -> BTreeSet<String> {
    let images = sim.images(&Family::ALL);
    images.map(|image| show(&image.sim)).collect()
}

#[test]
fn the_strict_profile_shows_prefixes_of_the_calls() {
    let sim = three_changes();
    sim.set_profile(Profile::Strict);
    let expected = [
        "8.log=-*1024",
        "7.tbl= 8.log=-*1024",
        "7.tbl=grown 8.log=-*1024",
        "7.tbl=grown 8.log=x*1024",
        "7.tbl=grown 8.log=x*1024 9.tmp=",
    ];
    let sorted = |text: &str| {
        let mut names: Vec<&str> = text.split(' ').collect();
        names.sort_unstable();
        names.join(" ")
    };
    let shown: BTreeSet<String> = all_images(&sim).iter().map(|t| sorted(t)).collect();
    assert_eq!(shown, expected.map(sorted).into());
}

#[test]
fn the_ext4_profile_orders_names_and_sizes_and_shows_no_growth_without_data() {
    let sim = three_changes();
    let any = all_images(&sim);
    sim.set_profile(Profile::Ext4Ordered);
    let ext4 = all_images(&sim);
    assert!(ext4.is_subset(&any) && ext4.len() < any.len());
    for disk in &ext4 {
        assert!(
            !disk.contains("7.tbl=.*5"),
            "{disk}: grown without its data"
        );
        let has = |name| disk.contains(name);
        assert!(
            !has("9.tmp") || has("7.tbl=grown"),
            "{disk}: names out of order"
        );
    }
    // What is written over may still be torn, and names may be lost.
    let torn = "8.log=x*512-*512 7.tbl=grown"
        .split(' ')
        .collect::<BTreeSet<_>>();
    let split = |disk: &String| disk.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let torn = torn.into_iter().map(str::to_owned).collect();
    assert!(
        ext4.iter().any(|disk| split(disk).is_superset(&torn)),
        "{ext4:?}"
    );
    let image = sim.images(&[Family::Nothing]).next().unwrap();
    assert_eq!(
        image.sim.world().medium.profile,
        Profile::Ext4Ordered,
        "inherited"
    );
}

/// One run gives for each call what a run that is cut off there gives.
#[test]
fn a_watcher_gets_the_disk_before_each_call() {
    let script = |fs: &Fs| -> crate::base::error::Result<()> {
        fs.make_root()?;
        let file = fs.create_new(TABLE)?;
        file.write_all_at(&[b'x'; 700], 0)?;
        file.sync_data()?;
        fs.sync_dir()?;
        fs.rename(TABLE, TEMP)
    };
    let sim = SimFs::new(1);
    let (tell, told) = std::sync::mpsc::channel();
    sim.on_call(move |call, copy| tell.send((call, copy)).unwrap());
    script(&Fs::sim(&sim, Path::new(ROOT))).unwrap();
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told.len() as u64, sim.call_count());
    for (n, (call, copy)) in told.into_iter().enumerate() {
        assert_eq!((call, copy.call_count()), (n as u64, n as u64));
        let cut = SimFs::new(1);
        cut.crash_at(call);
        script(&Fs::sim(&cut, Path::new(ROOT))).unwrap_err();
        for family in Family::ALL {
            let ids = |sim: &SimFs| sim.images(&[family]).map(|i| i.id).collect::<Vec<_>>();
            assert_eq!(ids(&copy), ids(&cut));
            let count = copy.image_count(family);
            for n in 0..count {
                let id = ImageId { call, family, n };
                let [a, b] = [&copy, &cut].map(|sim| sim.image(id).unwrap());
                assert_eq!(
                    a.bytes(Path::new(ROOT), "000009.tmp"),
                    b.bytes(Path::new(ROOT), "000009.tmp")
                );
            }
            let beyond = ImageId {
                call,
                family,
                n: count,
            };
            assert!(copy.image(beyond).is_none(), "{beyond}");
        }
    }
}
