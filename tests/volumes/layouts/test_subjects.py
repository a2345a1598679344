import pytest

from vesalius.volumes.layouts.subjects import subject_of

SAME = [
    # One subject under several data sets and names, as the lines of SAT-DS and the files of the challenge write them.
    [("s1245", "TotalSegmentator_Cardiac"), ("s1245", "TotalSegmentator_v2"), ("CT_TotalSeg_muscles_s1245", "CT_TotalSeg_muscles")],
    [("PETCT_0011f3deaf", "autoPET"), ("PETCT_0011f3deaf", "DAP_Atlas"),
     ("PET_autoPET_fdg_0011f3deaf_03-23-2003-NA-PET-CT", "PET_autoPET"), ("CT_Lesion_PETCT_0011f3deaf", "CT_WholeBodyTumor")],
    [("hepaticvessel_025.nii.gz", "MSD_HepaticVessel"), ("hepaticvessel_025.nii.gz", "Couinaud_Liver"),
     ("CT_AbdTumor_hepaticvessel_025", "CT_LiverTumor")],
    [("BraTS-GLI-00035-000", "BraTS2023_GLI"), ("BraTS-GLI-00035-001", "BraTS2023_GLI"), ("BraTS2021_00035", "BraTS2021"),
     ("MR_BraTS-T1c_bratsgli_0035", "MR_BraTS-T1c"), ("MR_BraTS-T2f_bratsgli_0035", "MR_BraTS-T2f")],
    [("patient138_frame01.nii.gz", "ACDC"), ("patient138_frame10.nii.gz", "ACDC")],
    [("MR_heart-ACDC_ACDC_patient058_frame01", "MR_Heart_ACDC"), ("MR_heart-ACDC_ACDC_patient058_frame09", "MR_Heart_ACDC")],
    [("P001-1", "CMRxMotion"), ("P001-4", "CMRxMotion")],
    [("segrap_0000", "SegRap2023_Task1"), ("segrap_0000", "SegRap2023_Task2")],
    [("34", "CHAOS_CT"), ("34", "CHAOS_MRI")],
    [("MR_ISLES2022_ADC_sub-strokecase0024", "MR_ISLES_ADC"), ("MR_ISLES2022_DWI_sub-strokecase0024", "MR_ISLES_DWI")],
    [("MR_WMH_FLAIR_Amsterdam_GE3T_100", "MR_WMH_FLAIR"), ("MR_WMH_T1_Amsterdam_GE3T_100", "MR_WMH_T1")],
    [("MR_QIN-PROSTATE-Prostate_PCAMPMRI-00012_1_1_MR", "MR_ProstateT2"),
     ("MR_QIN-PROSTATE-Lesion_PCAMPMRI-00012_0_2_MR", "MR_QIN-PROSTATE-Lesion")],
    [("MR_ProstateADC_ADC-ProstateX-0221", "MR_ProstateADC"), ("MR_ProstateT2_T2-ProstateX-0221_4", "MR_ProstateT2")],
    [("MR_ProstateT2_T2-MSD-prostate_04", "MR_ProstateT2"), ("MR_Prostate_ADC-MSD-prostate_04", "MR_ProstateADC")],
    [("npz_CT_Lesion_NIH-LYMPH-ABD-023_1-0-22", "CT_LymphNode"), ("npz_CT_Lesion_NIH-LYMPH-ABD-023_2-40-58", "CT_LymphNode")],
    [("MR_Spider_142_t1_spi", "MR_Spider"), ("MR_Spider_142_t2_SPACE_spi", "MR_Spider")],
    [("MR_Head_HNTSMRG24_77_preRT_T2", "MR_HNTS-MRG"), ("MR_Head_HNTSMRG24_77_midRT_T2", "MR_HNTS-MRG")],
]  # fmt: skip


@pytest.mark.parametrize("names", SAME, ids=lambda names: names[0][1])
def test_a_subject_has_one_name_in_all_parts_of_a_collection(names):
    assert len({subject_of(name, dataset=dataset) for name, dataset in names}) == 1


def test_subjects_that_a_name_tells_apart_stay_apart():
    told = [subject_of(*names[0][:1], dataset=names[0][1]) for names in SAME]
    told += [subject_of(name, dataset=dataset) for name, dataset in (
        ("s1246", "TotalSegmentator_v2"), ("BraTS-MEN-00035-000", "BraTS2023_MEN"), ("BraTS-GLI-00350-000", "BraTS2023_GLI"),
        ("Case17.nii.gz", "PROMISE12"), ("Case17.nii.gz", "MRSpineSeg"), ("34", "WMH_Segmentation_Challenge"),
        ("case_12", "HAN_Seg"), ("case_12", "BrainPTM"), ("P002-1", "CMRxMotion"), ("liver_025.nii.gz", "MSD_Liver"),
        ("NIH-LYMPH-MED-023_4-480-508", "CT_LymphNode"), ("CLINIC_0001", "CTPelvic1K"), ("1", "A"), ("2", "A"), ("1", "B"),
    )]  # fmt: skip
    assert len(set(told)) == len(told)


def test_a_word_that_ends_like_a_name_of_a_collection_is_another_word():
    told = {subject_of(name, dataset="CT_Tumor") for name in ("scapula_012", "fibula_012", "la_012")}
    assert told == {("tumor", "scapula-012"), ("tumor", "fibula-012"), ("msd", "la-12")}


def test_names_of_a_collection_are_looked_for_only_where_list_or_scan_is_called_so():
    assert subject_of("hepaticvessel_025", dataset="CT_LiverTumor") == ("msd", "hepaticvessel-25")
    assert subject_of("MSD_hepaticvessel_025", dataset="Vessels") == ("msd", "hepaticvessel-25")
    assert subject_of("hepaticvessel_025", dataset="Vessels") == ("vessels", "hepaticvessel-025")


def test_a_name_of_nothing_but_words_for_images_is_kept():
    assert subject_of("T1.nii.gz", dataset="MRI") == ("mri", "t1")
    assert subject_of("病人", dataset="医院") == ("医院", "病人")
    assert subject_of("", dataset="A") == ("a", "")
