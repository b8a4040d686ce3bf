//! Regions and host names.

use std::collections::BTreeSet;

use ssmbake_manifests::{HostVariant, Region, RegionMatch, Service, catalog};

fn region(id: &str) -> Region {
    catalog().regions().find(id).unwrap().into_region()
}

fn hosts(id: &str, service: Service) -> [Option<String>; 4] {
    let all = [
        HostVariant::Standard,
        HostVariant::Fips,
        HostVariant::DualStack,
        HostVariant::FipsDualStack,
    ];
    all.map(|variant| catalog().regions().host(&region(id), service, variant))
}

#[test]
fn ids_are_unique_and_shaped_like_their_partition() {
    let regions = catalog().regions();
    let ids: BTreeSet<&str> = regions.all().iter().map(|region| region.id.as_str()).collect();
    assert_eq!(ids.len(), regions.all().len());
    for region in regions.all() {
        let partition = regions.partition_of(region).unwrap();
        assert!(region.known && !region.description.is_empty(), "{}", region.id);
        assert!(
            partition
                .prefixes
                .iter()
                .any(|prefix| region.id.starts_with(&format!("{prefix}-"))),
            "{}",
            region.id
        );
    }
}

/// Changing the number of a known region gives an unknown id of the same shape: it must land in the same partition.
#[test]
fn every_known_region_has_assumable_neighbours() {
    let regions = catalog().regions();
    for region in regions.all() {
        let id = format!("{}99", &region.id[..region.id.len() - 1]);
        match regions.find(&id) {
            Ok(RegionMatch::Assumed(found)) => assert_eq!(found.partition, region.partition, "{id}"),
            other => panic!("{id}: {other:?}"),
        }
    }
}

#[test]
fn all_partitions_are_there() {
    let ids: Vec<&str> = catalog()
        .regions()
        .partitions()
        .iter()
        .map(|partition| partition.id.as_str())
        .collect();
    for id in [
        "aws",
        "aws-cn",
        "aws-us-gov",
        "aws-iso",
        "aws-iso-b",
        "aws-iso-e",
        "aws-iso-f",
        "aws-eusc",
    ] {
        assert!(ids.contains(&id), "{id}");
    }
}

#[test]
fn find_knows_assumes_and_refuses() {
    let regions = catalog().regions();
    assert!(matches!(regions.find("eu-west-1"), Ok(RegionMatch::Known(found)) if found.partition == "aws"));
    for (id, partition) in [
        ("eu-west-9", "aws"),
        ("us-gov-central-1", "aws-us-gov"),
        ("cn-east-12", "aws-cn"),
    ] {
        match regions.find(id) {
            Ok(RegionMatch::Assumed(found)) => {
                assert_eq!((found.partition.as_str(), found.known), (partition, false))
            }
            other => panic!("{id}: {other:?}"),
        }
    }
    for (id, nearest) in [
        ("eu-wst-1", &["eu-west-1", "eu-west-2", "eu-west-3"][..]),
        ("EU-WEST-1", &["eu-west-1", "eu-west-2", "eu-west-3"]),
        ("us-east-1a", &["us-east-1", "us-east-2"]),
        (" us-east-1", &["us-east-1", "us-east-2"]),
        ("", &[]),
        ("-", &[]),
        ("aws-global", &[]),
        ("frankfurt", &[]),
    ] {
        assert_eq!(regions.find(id).unwrap_err().nearest, nearest, "{id:?}");
    }
    for id in [
        "eu-west-",
        "eu-west-0",
        "eu-west-01",
        "eu-west-100",
        "eu-west-+1",
        "eu--1",
        "xx-west-1",
        "eu-west-1-x",
        "eu-west-١",
    ] {
        assert!(regions.find(id).is_err(), "{id}");
    }
}

#[test]
fn absurd_ids_are_cut_and_escaped() {
    let error = catalog()
        .regions()
        .find(&"\n\u{1b}eu-west-1".repeat(1000))
        .unwrap_err();
    assert_eq!((error.id.chars().count(), error.nearest.len()), (64, 0));
    assert!(!error.to_string().contains(['\n', '\u{1b}']));
    assert!(
        catalog()
            .regions()
            .find(&format!("eu-west-{}", "9".repeat(10_000)))
            .is_err()
    );
    assert!(catalog().regions().find("🦀-west-1").is_err());
}

/// As botocore 1.44.5 resolves them, except that it makes a FIPS name up for every region: here `-` stands where
/// its endpoints.json lists none, and where only its partitions.json has a dual-stack suffix (the ISO partitions).
#[test]
fn hosts_are_those_of_botocore() {
    let table = "
us-east-1      ssm  ssm.us-east-1.amazonaws.com           ssm-fips.us-east-1.amazonaws.com      ssm.us-east-1.api.aws                    -
us-east-1      s3   s3.us-east-1.amazonaws.com            s3-fips.us-east-1.amazonaws.com       s3.dualstack.us-east-1.amazonaws.com     s3-fips.dualstack.us-east-1.amazonaws.com
us-east-1      kms  kms.us-east-1.amazonaws.com           kms-fips.us-east-1.amazonaws.com      kms.us-east-1.api.aws                    -
us-east-1      logs logs.us-east-1.amazonaws.com          logs-fips.us-east-1.amazonaws.com     logs.us-east-1.api.aws                   -
eu-west-1      ssm  ssm.eu-west-1.amazonaws.com           -                                     ssm.eu-west-1.api.aws                    -
eu-west-1      s3   s3.eu-west-1.amazonaws.com            -                                     s3.dualstack.eu-west-1.amazonaws.com     -
eu-west-1      kms  kms.eu-west-1.amazonaws.com           kms-fips.eu-west-1.amazonaws.com      kms.eu-west-1.api.aws                    -
eu-west-1      logs logs.eu-west-1.amazonaws.com          -                                     logs.eu-west-1.api.aws                   -
ca-central-1   ssm  ssm.ca-central-1.amazonaws.com        ssm-fips.ca-central-1.amazonaws.com   ssm.ca-central-1.api.aws                 -
sa-west-1      ssm  ssm.sa-west-1.amazonaws.com           -                                     ssm.sa-west-1.api.aws                    -
cn-north-1     ssm  ssm.cn-north-1.amazonaws.com.cn       -                                     ssm.cn-north-1.api.amazonwebservices.com.cn -
cn-north-1     s3   s3.cn-north-1.amazonaws.com.cn        -                                     s3.dualstack.cn-north-1.amazonaws.com.cn -
us-gov-west-1  ssm  ssm.us-gov-west-1.amazonaws.com       ssm.us-gov-west-1.amazonaws.com       ssm.us-gov-west-1.api.aws                -
us-gov-west-1  s3   s3.us-gov-west-1.amazonaws.com        s3-fips.us-gov-west-1.amazonaws.com   s3.dualstack.us-gov-west-1.amazonaws.com s3-fips.dualstack.us-gov-west-1.amazonaws.com
us-gov-west-1  kms  kms.us-gov-west-1.amazonaws.com       kms-fips.us-gov-west-1.amazonaws.com  kms.us-gov-west-1.api.aws                -
us-gov-west-1  logs logs.us-gov-west-1.amazonaws.com      logs.us-gov-west-1.amazonaws.com      logs.us-gov-west-1.api.aws               -
us-iso-east-1  ssm  ssm.us-iso-east-1.c2s.ic.gov          -                                     -                                        -
us-iso-east-1  s3   s3.us-iso-east-1.c2s.ic.gov           s3-fips.us-iso-east-1.c2s.ic.gov      -                                        s3-fips.dualstack.us-iso-east-1.c2s.ic.gov
us-iso-east-1  kms  kms.us-iso-east-1.c2s.ic.gov          kms-fips.us-iso-east-1.c2s.ic.gov     -                                        -
us-isob-west-1 s3   s3.us-isob-west-1.sc2s.sgov.gov       -                                     -                                        -
eu-isoe-west-1 logs logs.eu-isoe-west-1.cloud.adc-e.uk    -                                     -                                        -
us-isof-east-1 kms  kms.us-isof-east-1.csp.hci.ic.gov     kms-fips.us-isof-east-1.csp.hci.ic.gov -                                       -
eusc-de-east-1 ssm  ssm.eusc-de-east-1.amazonaws.eu       -                                     ssm.eusc-de-east-1.api.amazonwebservices.eu -
eusc-de-east-1 s3   s3.eusc-de-east-1.amazonaws.eu        -                                     s3.dualstack.eusc-de-east-1.amazonaws.eu -
eu-west-9      s3   s3.eu-west-9.amazonaws.com            -                                     s3.dualstack.eu-west-9.amazonaws.com     -
";
    for row in table.trim().lines() {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let found =
            hosts(fields[0], fields[1].parse().unwrap()).map(|host| host.unwrap_or_else(|| "-".to_owned()));
        assert_eq!(found, fields[2..], "{row}");
    }
}

/// botocore does not know these two services; AWS's user guide lists the five regions with FIPS.
#[test]
fn hosts_of_the_message_services() {
    for service in [Service::Ssmmessages, Service::Ec2messages] {
        let host = |text: String| Some(text);
        let east = [
            host(format!("{service}.us-east-1.amazonaws.com")),
            host(format!("{service}-fips.us-east-1.amazonaws.com")),
            host(format!("{service}.us-east-1.api.aws")),
            None,
        ];
        assert_eq!(hosts("us-east-1", service), east);
        assert_eq!(hosts("ca-central-1", service)[1], None);
        assert_eq!(hosts("us-gov-west-1", service)[1], None);
        assert_eq!(
            hosts("cn-north-1", service)[0],
            host(format!("{service}.cn-north-1.amazonaws.com.cn"))
        );
    }
}

#[test]
fn no_host_is_left_unfilled() {
    let regions = catalog().regions();
    for region in regions.all() {
        for service in Service::ALL {
            assert!(
                regions.host(region, *service, HostVariant::Standard).is_some(),
                "{} {service}",
                region.id
            );
            for host in HostVariant::ALL
                .iter()
                .filter_map(|variant| regions.host(region, *service, *variant))
            {
                let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
                assert!(
                    host.chars().all(allowed) && !host.contains("..") && !host.ends_with('.'),
                    "{host}"
                );
            }
        }
    }
}
