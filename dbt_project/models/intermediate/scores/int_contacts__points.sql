{{ points_of([ref('ftr_contacts__implicit')], segments_from=ref('int_contacts__segments')) }}
